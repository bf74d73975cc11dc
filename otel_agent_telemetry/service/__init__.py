"""The HTTP service: endpoints, guards, an OTLP receiver over HTTP and gRPC, one writer thread. See `app.create_app`."""
