"""What a run counts, shows and explains."""
