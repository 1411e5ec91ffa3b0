"""`python -m longclip_cli` is `longclip-score`."""

from longclip_cli.cli.score import main

main()
