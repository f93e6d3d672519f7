"""Options: what is accepted, what is refused, and that all of it arrives."""

from __future__ import annotations

import inspect
from dataclasses import fields

import numpy as np
import pytest
from click.testing import CliRunner

import dnmf
from dnmf.cli.cluster import ClusterOptions
from dnmf.cli.main import cli
from dnmf.config import OPTIONS, FitConfig, ModelSpec
from dnmf.errors import OptionError
from dnmf.options import OPTION_NAMES


def refused(*arguments: str) -> str:
    run = CliRunner().invoke(cli, list(arguments))
    assert run.exit_code == 2, run.output
    assert run.stdout == ""
    assert "Traceback" not in run.stderr
    return run.stderr


@pytest.mark.parametrize("command", [["fit", "V.zarr", "--out", "x"], ["plan", "V.zarr"]])
@pytest.mark.parametrize("k", ["0", "-3", "2.5", "many", "1e3"])
def test_impossible_k(command, k):
    message = refused(*command, "-k", k)
    assert "'-k'" in message
    assert k in message


def test_missing_k_and_missing_out():
    assert "Missing option '-k'" in refused("fit", "V.zarr", "--out", "x")
    assert "Missing option '--out'" in refused("fit", "V.zarr", "-k", "3")
    assert "Missing option '--out'" in refused("transform", "V.zarr", "x.zarr")


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--seed", "-1", "-1"),
        ("--tol", "-0.1", "-0.1"),
        ("--max-passes", "0", "0"),
        ("--max-time", "soon", "'soon' is no time"),
        ("--max-time", "0", "more than 0"),
        ("--max-time", "nan", "no time"),
        ("--dtype", "float16", "float16"),
        ("--block-size", "big", "give bytes, as in 600MB or 2GiB"),
        ("--memory", "0", "at least one byte"),
        ("--sample-bytes", "-1", "0 or more"),
        ("--memory", "1XB", "1XB"),
        ("--missing-chunks", "guess", "guess"),
        ("--workers", "-1", "-1"),
        ("--threads", "0", "0"),
    ],
)
def test_impossible_values(option, value, says):
    message = refused("fit", "V.zarr", "-k", "3", "--out", "x", option, value)
    assert f"'{option}'" in message
    assert says in message


@pytest.mark.parametrize("command", ["fit", "resume", "transform", "plan"])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--scheduler", "tcp://h:1", "--workers", "2"], "--workers would start a local cluster"),
        (["--scheduler-file", "s.json", "--memory", "1GB"], "--scheduler-file names one that runs"),
        (["--scheduler", "tcp://h:1", "--scheduler-file", "s.json"], "two clusters"),
    ],
)
def test_contradictions_are_one_sentence(command, options, says):
    needed = {
        "fit": ["V.zarr", "-k", "3", "--out", "x"],
        "resume": ["x"],
        "transform": ["V.zarr", "x", "--out", "y"],
        "plan": ["V.zarr", "-k", "3"],
    }
    message = refused(command, *needed[command], *options)
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert says in message


def test_convert_chunks():
    for chunks in ("0,5", "1,2,3", "a,b", ""):
        assert "'--chunks'" in refused("convert", "a.npy", "b.zarr", "--chunks", chunks)


def test_columns_belong_to_large():
    assert "--columns belongs to --large" in refused("demo", "--columns", "10")


def test_every_choice_is_a_valid_option_and_no_other():
    choices = {
        param.name: param.type.choices
        for param in cli.get_command(None, "fit").params
        if hasattr(param.type, "choices")
    }
    for name in ("dtype", "missing_chunks"):
        values = choices[name]
        for value in values:
            assert getattr(FitConfig((ModelSpec(1, 0),), **{name: value}), name) == value
        with pytest.raises(OptionError) as refusal:
            FitConfig((ModelSpec(1, 0),), **{name: "unheard of"})
        assert all(value in str(refusal.value) for value in values)


def test_the_table_of_options_has_what_fit_takes():
    taken = set(inspect.signature(dnmf.fit).parameters)
    assert set(OPTION_NAMES) <= taken
    offered = {param.name for param in cli.get_command(None, "fit").params}
    where = {field.name for field in fields(ClusterOptions)}
    assert offered - where - {"v", "out", "overwrite", "debug", "help"} <= set(OPTION_NAMES)
    assert offered >= {name for name, option in OPTIONS.items() if option.metadata["help"]}


def test_arguments_repeat_the_options():
    options = ClusterOptions(workers=2, memory=10**9)
    assert options.arguments() == " --workers 2 --memory 1000000000"
    assert ClusterOptions().arguments() == ""
    assert ClusterOptions(scheduler_file="a b").arguments() == " --scheduler-file 'a b'"


def test_serial_needs_no_client():
    with ClusterOptions(workers=0, memory=10**9).running() as where:
        assert where["executor"].resources().memory_limit == 10**9
        assert where["executor"].resources().threads == 1


def test_this_process_alone_takes_the_threads_that_it_is_given(tmp_path):
    np.save(tmp_path / "V.npy", np.random.default_rng(0).random((300, 20)))
    arguments = [str(tmp_path / "V.npy"), "-k", "2", "--workers", "0", "--threads", "3"]
    for command in (["plan", *arguments], ["fit", *arguments, "--out", str(tmp_path / "out")]):
        done = CliRunner().invoke(cli, command)
        assert done.exit_code == 0, done.output
        assert "3 threads of this process" in done.output
