//! Event files, directories, globs and standard input, cut into chunks of whole lines.
