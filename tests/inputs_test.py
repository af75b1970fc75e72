"""What enters a public function with values that no method can take."""

import dataclasses
import json

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsl_jax import adapt, backbones, hardness, types
from fsl_jax.data import synthetic

METHODS = ("support_init", "finetune", "transductive_finetune", "prototype")
KEY = jax.random.key(0)


def method(name):
  return adapt.create(name, helpers.tiny_backbone())


def variables():
  return helpers.tiny_variables(helpers.tiny_backbone())


def one(adapter, task):
  return adapt.run.run(KEY, adapter, variables(), task)


def diagnosed(adapter, task):
  return adapt.run.diagnosed(KEY, adapter, variables(), task)


def batched(adapter, task):
  tasks = jax.tree.map(lambda x: np.asarray(x)[None], task)
  program = adapt.batched.compile(adapter, chunk=1)
  return program(KEY, variables(), tasks, np.zeros(1, np.int32))


def by_hand(adapter, task):
  return adapter.init(KEY, variables(), task)


@pytest.mark.parametrize("run", [one, diagnosed, batched])
@pytest.mark.parametrize("name", METHODS)
def test_labels_from_one_are_refused(name, run):
  """As of five ways 1 to 5: the last class would vanish without a word."""
  task, _ = helpers.make_task((1, 2, 3))
  shifted = dataclasses.replace(task, support_labels=task.support_labels + 1)
  with pytest.raises(types.InputError, match=r"support_labels .*\[0, 3\).*3"):
    run(method(name), shifted)


def test_negative_and_fractional_labels_are_refused():
  task, _ = helpers.make_task((1, 2, 3))
  for labels in (task.support_labels - 1, task.support_labels.astype(float)):
    with pytest.raises(types.InputError, match="support_labels"):
      one(method("prototype"), dataclasses.replace(task, support_labels=labels))


def test_labels_of_padding_do_not_matter():
  task, _ = helpers.make_task((1, 2, 3))
  labels = np.where(np.arange(6) == 5, 99, task.support_labels)
  task = dataclasses.replace(
    task, support_labels=labels, support_mask=np.arange(6) < 5
  )
  one(method("prototype"), task)


@pytest.mark.parametrize("side", ["support", "query"])
@pytest.mark.parametrize("run", [one, diagnosed, batched])
def test_float_pixels_are_refused(run, side):
  task, _ = helpers.make_task((1, 2, 3))
  name = f"{side}_images"
  images = getattr(task, name).astype(np.float32)
  changed = dataclasses.replace(task, **{name: images})
  with pytest.raises(types.InputError, match=f"{name} .*uint8"):
    run(method("prototype"), changed)
  # The same values, normalised, are welcome.
  run(method("prototype"), helpers.normalised(task))


def test_hardness_refuses_float_pixels():
  extract = hardness.extractor(helpers.tiny_backbone())
  images = synthetic.make(2, 2, image_size_px=8).images.astype(np.float32)
  with pytest.raises(types.InputError, match=r"images .*uint8"):
    extract(variables(), images)


class TestWidths:
  @pytest.mark.parametrize("num_logits", [0, 4, 5, 384])
  def test_identity_needs_features_after_the_logits(self, num_logits):
    network = backbones.identity(num_logits=num_logits)
    with pytest.raises(types.InputError, match=f"num_logits={num_logits}.* 4 "):
      network.apply(
        network.init(KEY, jnp.ones((2, 4))), jnp.ones((2, 4)), train=False
      )


class TestMadeAgain:
  def test_network_from_the_json_of_its_checkpoint(self):
    made = backbones.create(
      "resnet12", num_classes=4, image_size_px=16, widths=(4, 8, 8, 8)
    )
    again = backbones.create(**json.loads(json.dumps(made.config)))
    assert again == made

  def test_equal_numbers_of_other_types_are_other_records(self):
    configs = [
      adapt.create(
        "finetune", helpers.tiny_backbone(), temperature=temperature
      ).config
      for temperature in (10, 10.0, 10)
    ]
    texts = [json.dumps(config) for config in configs]
    assert texts[0] == texts[2] != texts[1]

  def test_functions_take_names(self):
    task, _ = helpers.make_task()
    one = method("prototype")
    state = one.init(key=KEY, variables=variables(), task=task)
    assert one.predict(state=state, task=task).shape == (7, 3)
