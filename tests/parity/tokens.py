"""The tokenisation fixture: a SentencePiece model, and transformers' ids of prompts."""

import pathlib
import random

import sentencepiece
from transformers import T5Tokenizer

from rahf import targets, words
from rahf.datasets.scenes import grammar

ROOT = pathlib.Path(__file__).parents[2]


def make(folder: pathlib.Path) -> dict:
    """Trains spiece.model on the project's text and tokenises 200 prompts with it.

    T5's conventions: unigram, pad 0, end of sequence 1, unknown 2, 100 extra ids.
    """
    lines = [line for path in sorted(ROOT.rglob("*.md")) for line in _lines(path)]
    lines += grammar.corpus(2000, 0)
    model = folder / "spiece.model"
    with model.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=file,
            model_type="unigram",
            vocab_size=32_000,  # as many as the text allows
            hard_vocab_limit=False,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            required_chars="_0123456789<>/:",
            byte_fallback=False,
            num_threads=1,
            minloglevel=2,
        )
    tokenizer = T5Tokenizer.from_pretrained(str(folder), extra_ids=100)
    return {
        "size": len(tokenizer),
        "extra_id_0": tokenizer.convert_tokens_to_ids("<extra_id_0>"),
        "prompts": [[text, tokenizer(text).input_ids] for text in _prompts()],
    }


def _lines(path: pathlib.Path) -> list[str]:
    if ".venv" in path.parts:
        return []
    return [line for line in path.read_text("utf-8").splitlines() if line.strip()]


def _prompts() -> list[str]:
    """Plain prompts, augmented ones, marked ones and what people type."""
    generator = random.Random(0)
    plain = list(grammar.corpus(60, 5))
    typed = [
        "a photo of an astronaut riding a horse on mars, 4k, trending on artstation",
        "Portrait of a woman; oil painting! dramatic light?",
        "two cats and three dogs: one is asleep",
        "the number 42 on a jersey, 1990s style, f/1.8",
        "  too   many  spaces ",
        "UPPER CASE and MiXeD, naïve café, Zürich",
        "東京 at night",
        "emoji 🙂 here",
        "half-width ｆｕｌｌ width, ﬁne ligature, ½ cup",
        "semi;colon:colon,comma.dot",
        "don't can't o'clock",
        "a_b under_score _0 0_0",
        "",
    ]
    texts = [*plain, *typed]
    rows = targets.select(targets.FEEDBACK)
    texts += [rows[i % len(rows)].prompt + text for i, text in enumerate(plain)]
    for text in plain:
        labels = [generator.randrange(2) for _ in words.split(text)]
        texts.append(words.mark(text, labels))
    return texts[:193] + [row.prompt + "a yellow_0 cat" for row in rows]
