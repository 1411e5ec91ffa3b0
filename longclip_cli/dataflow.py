"""`longclip_cli.integrations.dataflow` under the name by which pipelines import it."""

from longclip_cli.integrations.dataflow import LongCLIPEvaluator, Storage

__all__ = ["LongCLIPEvaluator", "Storage"]
