"""Example reports with made-up figures, for tests and for looking at. Every part can be left out."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

from trsp_core.config import CompressionSpec
from trsp_core.results import (
    Check,
    ChoiceRound,
    CompressionReport,
    CurvePoint,
    ModelFacts,
    PerplexityResult,
    PruningPlan,
    Resources,
    RoundTrip,
    SizeResult,
    SpeedResult,
    StepRecord,
)

LAYER_WEIGHTS = 3_540_096
HEAD_WEIGHTS = 28_312_128


def example_report(
    *,
    reference: str = "demo:smollm2-135m",
    layers: int = 30,
    order: tuple[int, ...] = (24, 11, 20, 9, 26, 13, 22, 6),
    **changes: Any,
) -> CompressionReport:
    """Return a full report of a two-stage run; `changes` replace its parts."""
    spec = CompressionSpec.from_dict(
        {
            "model": reference,
            "target": {"layers_to_remove": len(order)},
            "calibration": {"set": "python-docs", "sequences": 32, "sequence_length": 256},
            "evaluation": {"perplexity": ["python-docs", "text:valid.txt"], "windows": 24, "speed": True},
        }
    )
    report = CompressionReport(
        spec=spec.to_dict(),
        spec_fingerprint=spec.fingerprint(),
        model=_facts(reference, layers),
        plan=_plan(layers, order),
        perplexity=_perplexity(),
        speed=_speed(),
        size=_size(layers, len(order)),
        round_trip=_round_trip(),
        curve=_curve(layers, order),
        identity_gap={layer: (0.19 + 0.013 * (layer % 5), 0.11 + 0.009 * (layer % 4)) for layer in order},
        stage2=_stage2(),
        refitted_layers=tuple(layer - 1 for layer in order if layer - 1 not in order),
        timings=_timings(),
        resources=Resources(
            peak_rss_bytes=1_243_611_136,
            peak_cuda_bytes=None,
            gradient_tokens=102_400,
            forward_tokens=716_800,
        ),
        environment=_environment(),
        seed=spec.seed,
        started_at="2026-11-24T09:12:41+00:00",
        finished_at="2026-11-24T09:19:04+00:00",
        notes=("Stage 1 stopped early in rounds 3 and 5: the gates stood still.",),
    )
    return replace(report, **changes)


def bare_report(**changes: Any) -> CompressionReport:
    """Return the report of a baseline with nothing optional measured."""
    spec = CompressionSpec.from_dict({"model": "m", "sparsity": 0.25, "calibration": "ptb", "method": "last"})
    bare = {
        "spec": spec.to_dict(),
        "spec_fingerprint": spec.fingerprint(),
        "plan": PruningPlan("last", 30, (28, 27, 26)),
        "perplexity": {},
        "speed": {},
        "curve": (),
        "identity_gap": {},
        "stage2": (),
        "refitted_layers": (),
        "timings": {},
        "notes": (),
        "round_trip": replace(_round_trip(), checks=()),
    }
    return example_report(**{**bare, **changes})


def _facts(reference: str, layers: int) -> ModelFacts:
    return ModelFacts(
        reference=reference,
        revision="9f3c2b7a51d04e6f8a1b2c3d4e5f60718293a4b5",
        model_type="llama",
        layers=layers,
        parameters=layers * LAYER_WEIGHTS + HEAD_WEIGHTS,
        layer_parameters=(LAYER_WEIGHTS,) * layers,
        hidden_size=576,
        vocabulary=49152,
        max_positions=8192,
        stored_bytes=4 * (layers * LAYER_WEIGHTS + HEAD_WEIGHTS) + 30_112,
        stored_dtype="float32",
    )


def _plan(layers: int, order: tuple[int, ...]) -> PruningPlan:
    noise = random.Random(7)
    base = {layer: 0.35 + 0.6 * abs(math.cos(layer * 0.21)) for layer in range(1, layers - 1)}
    rounds = []
    for index, layer in enumerate(order):
        scores = {
            other: round(base[other] + noise.uniform(-0.03, 0.03), 4)
            for other in base
            if other not in order[:index]
        }
        scores[layer] = round(min(scores.values()) - 0.01, 4)
        best = sorted(scores, key=scores.__getitem__)[:4]
        loss = 2.70 + 0.055 * (index + 1) ** 1.4
        verified = {other: round(loss + 0.02 * place, 4) for place, other in enumerate(best)}
        rounds.append(ChoiceRound(layer, scores, verified, round(loss, 4), steps=12 - index % 3))
    return PruningPlan("trsp", layers, order, tuple(rounds), dense_loss=2.7014)


def _perplexity() -> dict[str, PerplexityResult]:
    return {
        "python-docs": PerplexityResult(14.7312, 24.9071, 24, 256, 6120, "c0ffee" * 10 + "abcd", True),
        "text:valid.txt": PerplexityResult(29.6148, 52.3377, 24, 256, 6120, "badcab" * 10 + "1234"),
    }


def _speed() -> dict[str, SpeedResult]:
    return {
        "prompt": SpeedResult(
            1432.6,
            1105.3,
            "ms",
            1.2968,
            1.3142,
            10,
            (1.2871, 1.3055),
            False,
            {"batch": 1, "prompt_tokens": 512},
        ),
        "generation": SpeedResult(
            61.84,
            78.21,
            "tokens/s",
            1.2641,
            1.2906,
            10,
            (1.2417, 1.2789),
            False,
            {"batch": 4, "prompt_tokens": 64, "new_tokens": 32},
        ),
    }


def _size(layers: int, gone: int) -> SizeResult:
    dense, pruned = (count * LAYER_WEIGHTS + HEAD_WEIGHTS for count in (layers, layers - gone))
    return SizeResult(dense, pruned, dense * 4 + 30_112, pruned * 4 + 22_480)


def _round_trip() -> RoundTrip:
    checks = (
        Check("no_warnings", True, 0, 0, "warnings"),
        Check("logits", True, 9.5e-7, 1e-5, "largest logit difference"),
        Check("cached_generation", True, 0, 0, "different tokens", "16 tokens, greedy"),
        Check("left_padded", True, 0, 0, "different tokens", "prompts of 8, 3 tokens"),
        Check("second_save_tensors", True, 0, 0, "different tensors"),
        Check("second_save_logits", True, 0.0, 0, "largest logit difference"),
        Check("sdpa_and_eager", True, 7.1e-5, 4.6e-4, "largest logit difference"),
        Check("vllm", None, None, None, "", "vLLM is not installed"),
    )
    loader = 'AutoModelForCausalLM.from_pretrained("model")'
    return RoundTrip(True, 9.5e-7, 1e-5, True, loader, checks=checks)


def _curve(layers: int, order: tuple[int, ...]) -> tuple[CurvePoint, ...]:
    return tuple(
        CurvePoint(
            removed=count,
            layer=order[count - 1] if count else None,
            perplexity=round(14.9 * math.exp(0.055 * count**1.6), 4),
            parameters=(layers - count) * LAYER_WEIGHTS + HEAD_WEIGHTS,
        )
        for count in range(len(order) + 1)
    )


def _stage2(steps: int = 100) -> tuple[StepRecord, ...]:
    noise = random.Random(11)
    records = []
    for step in range(1, steps + 1):
        decay = math.exp(-step / 35)
        lm, distill = 2.86 + 0.5 * decay + noise.gauss(0, 0.05), 0.21 + 0.4 * decay + noise.gauss(0, 0.02)
        gap, rate = 0.12 + 0.1 * decay, 1e-4 * min(1.0, step / 10)
        records.append(
            StepRecord(step, round(lm + distill, 4), round(gap, 5), rate, round(lm, 4), round(distill, 4))
        )
    return tuple(records)


def _timings() -> dict[str, float]:
    return {
        "resolve": 2.41,
        "preflight": 0.33,
        "calibrate": 1.92,
        "stage1": 142.7,
        "stage2": 171.3,
        "surgery": 1.18,
        "round_trip": 14.6,
        "evaluate": 61.2,
        "report": 0.4,
    }


def _environment() -> dict[str, Any]:
    return {
        "python": "3.11.7",
        "torch": "2.13.0+cpu",
        "transformers": "5.23.0",
        "trsp": "0.1.0",
        "platform": "Linux-6.1-x86_64-with-glibc2.36",
        "cpu": "Example CPU at 2.10GHz",
        "cores": 2,
        "threads": 2,
        "device": "cpu",
        "device_name": "Example CPU at 2.10GHz",
        "cuda": None,
        "tf32": False,
        "deterministic": True,
    }
