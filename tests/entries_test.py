"""The entries of methods: names, labels, options, methods of other packages."""

import dataclasses
import json

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsl_jax import adapt, backbones, types
from fsl_jax.adapt import finetune, prototypes

NETWORK = helpers.tiny_backbone()


@pytest.fixture
def module(tmp_path, monkeypatch):
  """A module that is not of this package, under a name of its own."""
  name = f"methods_of_{tmp_path.name}".replace("-", "_")
  (tmp_path / f"{name}.py").write_text(
    """
from fsl_jax import adapt
from fsl_jax.adapt import prototypes

CONFIG = prototypes.PrototypeConfig()

def floor(backbone, config=None, *, name):
  return prototypes.adapter(backbone, config or CONFIG, name=name)

def nothing(backbone, config=None, *, name):
  return None

COSINE = adapt.Entry(
  "cosine",
  prototypes.adapter,
  prototypes.PrototypeConfig,
  preset={"distance": "cosine"},
  label="nearest cosine",
  short_label="cosine",
  reads="features",
)
""",
    encoding="utf-8",
  )
  monkeypatch.syspath_prepend(str(tmp_path))
  return name


class TestTable:
  @pytest.mark.parametrize("name", adapt.names())
  def test_every_method_has_an_entry(self, name):
    entry = adapt.entry(name)
    assert entry.name == name
    assert entry.options == adapt.option_names(name)
    assert entry.reads == ("images" if "finetune" in name else "features")
    assert adapt.needs_base_statistics(name) == ("transform" in entry.options)
    made = adapt.create(name, NETWORK)
    assert made.name == name
    # Cached features serve it: no step changes the network.
    assert entry.reads == "features" or made.num_steps > 0
    # The record holds all options and is JSON.
    record = adapt.config(name)
    assert json.loads(json.dumps(record)) == record
    assert record.items() <= made.config.items()

  def test_labels_are_distinct(self):
    for of in (adapt.label, adapt.short_label):
      labels = {of(name) for name in adapt.names()}
      assert len(labels) == len(adapt.names())
      assert of("of a later version") == "of a later version"
    assert adapt.label("transductive_finetune") == "transductive fine-tuning"
    assert adapt.short_label("transductive_finetune") == "transductive"
    assert adapt.short_label("finetune") == adapt.label("finetune")


class TestEpochsHadAnotherName:
  def test_in_options(self):
    with pytest.warns(DeprecationWarning, match="epochs") as caught:
      made = adapt.create("finetune", NETWORK, steps=3)
    assert [warning.filename for warning in caught] == [__file__]
    assert made is adapt.create("finetune", NETWORK, epochs=3)
    assert made.num_steps == 3
    with pytest.warns(DeprecationWarning, match="epochs") as caught:
      record = adapt.config("finetune", steps=3)
    assert [warning.filename for warning in caught] == [__file__]
    assert record == adapt.config("finetune", epochs=3)

  def test_in_the_configuration(self):
    config = finetune.FinetuneConfig(epochs=4)
    with pytest.warns(DeprecationWarning, match="epochs") as caught:
      assert finetune.FinetuneConfig(steps=4) == config
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(DeprecationWarning, match="epochs") as caught:
      assert config.steps == 4
    assert [warning.filename for warning in caught] == [__file__]
    assert dataclasses.replace(config, epochs=5).epochs == 5
    names = [field.name for field in dataclasses.fields(config)]
    assert "epochs" in names
    assert "steps" not in names

  def test_records_keep_it(self):
    """Run folders of earlier versions are continued."""
    for record in (
      adapt.config("finetune", epochs=3),
      adapt.create("finetune", NETWORK, epochs=3).config,
      adapt.recorded(finetune.FinetuneConfig(epochs=3)),
    ):
      assert record["steps"] == 3
      assert "epochs" not in record

  def test_only_one_of_them(self):
    with pytest.raises(types.InputError, match=r"epochs.*steps"):
      adapt.create("finetune", NETWORK, epochs=3, steps=3)

  def test_where_neither_is_an_option(self):
    with pytest.raises(types.InputError, match="'steps'"):
      adapt.create("support_init", NETWORK, steps=3)


class TestOtherPackages:
  def test_entry(self, module):
    name = f"{module}:COSINE"
    assert adapt.label(name) == name  # Nothing is imported for a label.
    made = adapt.create(name, NETWORK, micro_batch=3)
    assert made.name == adapt.entry(name).name == name
    assert made.config == adapt.config(name, micro_batch=3)
    assert made.config["distance"] == "cosine"
    assert (adapt.label(name), adapt.short_label(name)) == (
      "nearest cosine",
      "cosine",
    )
    with pytest.raises(types.InputError, match="distance"):
      adapt.create(name, NETWORK, distance="euclidean")

  def test_factory(self, module):
    name = f"{module}:floor"
    made = adapt.create(name, NETWORK)
    assert (made.name, made.config, made.num_steps) == (name, {}, 0)
    assert adapt.label(name) == adapt.short_label(name) == "floor"
    with pytest.raises(types.InputError, match="micro_batch"):
      adapt.create(name, NETWORK, micro_batch=3)

  @pytest.mark.parametrize(
    ("name", "match"),
    [
      ("no_such_module:METHOD", "no_such_module"),
      (":METHOD", "package.module:attribute"),
      ("{module}:METHOD", "'METHOD'"),
      ("{module}:CONFIG", "PrototypeConfig"),
      ("{module}:nothing", "NoneType"),
    ],
  )
  def test_what_is_no_method(self, name, match, module):
    with pytest.raises(types.InputError, match=match):
      adapt.create(name.format(module=module), NETWORK)


def test_the_configuration_of_a_method_refuses_wrong_values():
  with pytest.raises(types.InputError, match="distance"):
    prototypes.PrototypeConfig(distance="l1")


@pytest.mark.parametrize("name", adapt.default_names())
def test_base_statistics_reach_methods_and_not_the_network(name):
  network = backbones.create("conv64", num_classes=4, image_size_px=16, width=4)
  task, _ = helpers.make_task(image_size_px=16)
  images = jnp.zeros((1, 16, 16, 3))
  variables = network.init(jax.random.key(0), images)
  method = adapt.create(
    name, network, **({"epochs": 1} if "finetune" in name else {})
  )
  expected, _ = adapt.run.run(jax.random.key(1), method, variables, task)
  given = {**variables, "base_statistics": {"mean": jnp.ones(3)}}
  logits, _ = adapt.run.run(jax.random.key(1), method, given, task)
  np.testing.assert_array_equal(logits, expected)
  _, collections = network.apply(given, images, train=True)
  assert set(collections) == {"batch_stats"}
