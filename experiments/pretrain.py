r"""Trains a backbone on the base classes of a data set.

  python experiments/pretrain.py --dataset=icons --backbone=conv64 \
      --run_dir=runs/icons_conv64

The defaults are the published recipe: 120 epochs in cycles of 40 and 80. The
same command continues an interrupted run and ends with the same weights.
The run folder holds the checkpoint of the best accuracy, `epochs.jsonl` with
one line per epoch, and scalars for TensorBoard.
"""

import command_line
import config_flags
import shared_flags
from absl import flags

from fsl_jax import backbones, data, pretrain

_DATASET = flags.DEFINE_string(
  "dataset", "icons", f"Data set: {', '.join(data.names())}."
)
_SPLIT = flags.DEFINE_string(
  "split", "base", "Classes to train on: base, or base+val."
)
_DATA_DIR = shared_flags.data_dir()
_IMAGE_SIZE = flags.DEFINE_integer(
  "image_size_px",
  None,
  "Size to which the images are resized. Default: the data set's usual one.",
)
_IN_MEMORY = flags.DEFINE_bool(
  "in_memory",
  None,
  "Hold all images on the device (--in_memory) or decode them as training goes "
  "on (--noin_memory). Default: by the size of the data set.",
)
_BACKBONE = flags.DEFINE_string(
  "backbone", "conv64", f"Network: {', '.join(backbones.names())}."
)
_DTYPE = flags.DEFINE_enum(
  "dtype", "float32", ["float32", "bfloat16"], "Of the computation."
)
_RUN_DIR = shared_flags.run_dir()
config_flags.define(pretrain.PretrainConfig)
flags.adopt_module_key_flags(config_flags)


def main(argv: list[str]) -> None:
  del argv
  run_dir = command_line.required(_RUN_DIR)
  config = pretrain.PretrainConfig(
    **config_flags.given(pretrain.PretrainConfig)
  )
  dataset = data.load(
    _DATASET.value,
    _SPLIT.value,
    data_dir=_DATA_DIR.value,
    image_size_px=data.usual_size_px(_DATASET.value)
    if _IMAGE_SIZE.value is None
    else _IMAGE_SIZE.value,
    in_memory=_IN_MEMORY.value,
  )
  backbone = backbones.create(
    _BACKBONE.value,
    num_classes=dataset.num_classes,
    image_size_px=dataset.image_size_px,
    dtype=None if _DTYPE.value == "float32" else _DTYPE.value,
  )
  result = pretrain.run(backbone, dataset, config, run_dir=run_dir)
  print(
    f"best accuracy on the training images "
    f"{result.meta['train_accuracy']:.1%} "
    f"(epoch {result.meta['epoch']} of {config.num_epochs})\n"
    f"checkpoint: {result.path}"
  )


if __name__ == "__main__":
  command_line.run(main)
