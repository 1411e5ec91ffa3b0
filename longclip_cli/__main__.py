"""`python -m longclip_cli` is `longclip-score`."""

from longclip_cli.cli import main

main()
