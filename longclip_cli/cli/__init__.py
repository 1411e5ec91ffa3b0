"""The commands: options in; messages and exit status out."""
