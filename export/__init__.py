"""From a checkpoint to a model file: export, parity check, the demo that runs the whole product."""
