"""From a reference to a loaded network: finding, downloading, reading, converting."""
