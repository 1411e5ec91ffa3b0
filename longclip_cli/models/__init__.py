"""The networks: their arithmetic, tokenizer and preprocessing, and how cosines become scores."""
