"""Flags out of their range are one line of usage, in whichever binary."""

import argparse

import pytest

from rahf.bin import (
    agreement,
    benchmark_input,
    benchmark_scenes,
    consolidate,
    cross_validate,
    eval_preferences,
    export,
    export_scenes,
    flags,
    make_vocabulary,
    scenes_ceiling,
)

SCORES = ("--scores=s.jsonl", "--pairs=p.parquet")
EXPORT = ("--checkpoint=W", "--format=stablehlo", "--output=DIR")
CONSOLIDATE = ("ratings.jsonl", "--images=DIR", "--output=DIR")


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "1.5"])
def test_shares_are_finite_and_in_range(text):
    with pytest.raises(argparse.ArgumentTypeError, match="finite number from 0 to 1"):
        flags.finite(0, 1)(text)
    assert flags.finite(0, 1)("0.25") == 0.25


@pytest.mark.parametrize(
    ("binary", "args", "wrong"),
    [
        (agreement, ("ratings.jsonl",), "--radius=nan"),
        (agreement, ("ratings.jsonl",), "--scale=nan-5"),
        (agreement, ("ratings.jsonl",), "--scale=1-inf"),
        (benchmark_input, (), "--examples=-1"),
        (benchmark_input, (), "--image_size=0"),
        (benchmark_input, (), "--sizes=512,0"),
        (benchmark_input, (), "--utilisation=nan"),
        (benchmark_scenes, (), "--scenes=0"),
        (consolidate, CONSOLIDATE, "--map_size=0"),
        (consolidate, CONSOLIDATE, "--dev_share=nan"),
        (consolidate, CONSOLIDATE, "--test_share=-0.1"),
        (cross_validate, ("--workdir=W",), "--folds=1"),
        (cross_validate, ("--workdir=W",), "--step=lastest"),
        (eval_preferences, SCORES, "--tie_threshold=nan"),
        (eval_preferences, SCORES, "--tie_threshold=-1"),
        (export, EXPORT, "--batch_size=0"),
        (export, EXPORT, "--step=lastest"),
        (export_scenes, ("--output=DIR",), "--examples=-1"),
        (export_scenes, ("--output=DIR",), "--size=0"),
        (make_vocabulary, ("--output=x.model",), "--size=0"),
        (scenes_ceiling, (), "--examples=0"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)).rpartition(".")[2],
)
def test_a_flag_out_of_range_is_refused(binary, args, wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        binary.main([*args, wrong])
    assert stop.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"argument {wrong.partition('=')[0]}: " in last


def test_ctrl_c_ends_with_130(capsys):
    for raised, line in ((KeyboardInterrupt(), "interrupted"), (Told(), "3 written")):
        with pytest.raises(SystemExit) as stop, flags.clear_errors():
            raise raised
        assert stop.value.code == 130
        assert capsys.readouterr().err == f"{line}\n"


class Told(KeyboardInterrupt):
    def __str__(self):
        return "3 written"
