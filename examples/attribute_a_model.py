"""Attribute a model: which training examples raise the likelihood of correct answers?

    python examples/attribute_a_model.py

With your own model and data, replace ``small_world()``:

    model, tokenizer = load_model("path/to/model")          # a folder, a hub id, a .gguf file, a PEFT adapter
    train = read_records("train.jsonl").records             # messages, ShareGPT, prompt/response, many public schemas
    correct = read_records("correct.jsonl").records         # responses you know to be correct
"""

from __future__ import annotations

from _world import small_world, tokens
from infra.influence import Engine, MeanLogLikelihood
from infra.influence.methods import MethodContext, get_method
from infra.models import tracked_weights


def main() -> list[tuple[float, str]]:
    """Print the training examples by their influence on correct math answers, best first, and return them."""
    model, tokenizer, train, correct = small_world()
    math = MeanLogLikelihood("math", tokens([r for r in correct if r.domain == "math"], tokenizer))
    engine = Engine(model, tracked_weights(model, "mlp"))
    examples = tokens(train, tokenizer)
    fitted = get_method("ekfac").fit(MethodContext(engine, examples, [math]))
    ranking = sorted(
        ((float(s.example[0]), train[s.index].question) for s in fitted.scores(examples, tokens=False)), reverse=True
    )
    print("influence on math   problem")
    for influence, question in [*ranking[:5], *ranking[-5:]]:
        print(f"{influence:>+17.1f}   {' '.join(question.split())[:90]}")
    return ranking


if __name__ == "__main__":
    main()
