"""Safe reading and writing of files: regular files only, atomic writes, bounded JSON, YAML and arrays."""
