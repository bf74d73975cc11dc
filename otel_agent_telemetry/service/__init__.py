"""The HTTP service: one writer for everybody's runs, an OTLP receiver, and reads. See `app.create_app`."""
