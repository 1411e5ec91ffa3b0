"""The networks: their arithmetic, tokenizer, preprocessing and devices, and how cosines become scores."""
