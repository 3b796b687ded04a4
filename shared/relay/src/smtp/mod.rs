//! SMTP submission (RFC 6409): sessions, and the server that runs them.
