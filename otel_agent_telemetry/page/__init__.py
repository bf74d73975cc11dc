"""The run viewer: pages for a browser, mounted into the service at `/`.

    rendering     templates, formats and the headers of every page
    formats       figures and times as people read them
    static_files  script and style, from memory, with a version in their address
    sign_in       the session cookie and the token behind it; forms are safe from other sites
    views         one module a page: its query, and what its template shows
    routes        the addresses, and where they lead

A page reads the database alone. Text of a run is untrusted: it reaches a page through a
template that escapes it, never through a script, a style or the scheme of a link.
"""
