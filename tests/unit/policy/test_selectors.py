"""Selectors mean what the API says, share one form where they mean the same, and both indices agree."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manx_core.api.core_v1 import LabelSelector, LabelSelectorRequirement
from manx_core.selectors import (
    EVERYTHING,
    NOTHING,
    Change,
    IncrementalIndex,
    InvalidSelector,
    Labels,
    LinearIndex,
    Requirement,
    Selector,
    check_label_selector,
    conjunction,
    parse_label_selector,
)

KEYS = ("app", "tier", "env")
VALUES = ("a", "b", "c")
labels_strategy = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))
requirement_strategy = st.one_of(
    st.builds(
        Requirement,
        st.sampled_from(KEYS),
        st.sampled_from(("In", "NotIn")),
        st.lists(st.sampled_from(VALUES), min_size=1, max_size=3).map(tuple),
    ),
    st.builds(Requirement, st.sampled_from(KEYS), st.sampled_from(("Exists", "DoesNotExist"))),
)
selector_strategy = st.lists(requirement_strategy, max_size=4).map(conjunction)


def expression(key: str, operator: str, *values: str) -> LabelSelectorRequirement:
    return LabelSelectorRequirement(key=key, operator=operator, values=values)


@pytest.mark.parametrize(
    ("selector", "text", "selected", "not_selected"),
    [
        (LabelSelector(), "all()", [{}, {"app": "a"}], []),
        (LabelSelector(match_labels={"app": "a"}), "app=a", [{"app": "a", "x": "y"}], [{}, {"app": "b"}]),
        (
            LabelSelector(match_expressions=(expression("app", "In", "b", "a"),)),
            "app in (a,b)",
            [{"app": "a"}, {"app": "b"}],
            [{}, {"app": "c"}],
        ),
        (
            LabelSelector(match_expressions=(expression("app", "NotIn", "a"),)),
            "app!=a",
            [{}, {"app": "b"}],
            [{"app": "a"}],
        ),
        (LabelSelector(match_expressions=(expression("app", "Exists"),)), "app", [{"app": ""}], [{}]),
        (LabelSelector(match_expressions=(expression("app", "DoesNotExist"),)), "!app", [{}], [{"app": ""}]),
        (
            LabelSelector(match_labels={"app": "a"}, match_expressions=(expression("app", "NotIn", "a"),)),
            "none()",
            [],
            [{}, {"app": "a"}],
        ),
        (
            LabelSelector(match_labels={"k8s.io/app": "a b,c"}),
            'k8s.io/app="a b,c"',
            [{"k8s.io/app": "a b,c"}],
            [{"k8s.io/app": "a"}],
        ),
    ],
)
def test_selector_means_what_the_api_says(
    selector: LabelSelector, text: str, selected: list[dict[str, str]], not_selected: list[dict[str, str]]
) -> None:
    parsed = parse_label_selector(selector)
    assert parsed.key == text
    assert all(parsed.matches(labels) for labels in selected)
    assert not any(parsed.matches(labels) for labels in not_selected)


@pytest.mark.parametrize(
    "selectors",
    [
        [
            LabelSelector(match_labels={"app": "a"}),
            LabelSelector(match_expressions=(expression("app", "In", "a"),)),
            LabelSelector(match_expressions=(expression("app", "In", "a", "b"), expression("app", "NotIn", "b"))),
            LabelSelector(match_labels={"app": "a"}, match_expressions=(expression("app", "Exists"),)),
        ],
        [
            LabelSelector(match_expressions=(expression("app", "DoesNotExist"), expression("app", "NotIn", "a"))),
            LabelSelector(match_expressions=(expression("app", "DoesNotExist"),)),
        ],
        [
            LabelSelector(match_expressions=(expression("app", "NotIn", "a"), expression("app", "NotIn", "b"))),
            LabelSelector(match_expressions=(expression("app", "NotIn", "b", "a", "b"),)),
        ],
    ],
)
def test_equal_selectors_written_differently_share_a_key(selectors: list[LabelSelector]) -> None:
    assert len({parse_label_selector(selector).key for selector in selectors}) == 1


@pytest.mark.parametrize(
    ("selector", "field"),
    [
        (LabelSelector(match_expressions=(expression("app", "Near", "a"),)), "matchExpressions[0].operator"),
        (LabelSelector(match_expressions=(expression("app", "In"),)), "matchExpressions[0].values"),
        (LabelSelector(match_expressions=(expression("app", "NotIn"),)), "matchExpressions[0].values"),
        (LabelSelector(match_expressions=(expression("app", "Exists", "a"),)), "matchExpressions[0].values"),
        (
            LabelSelector(match_expressions=(expression("app", "In", "a"), expression("", "Exists"))),
            "matchExpressions[1].key",
        ),
        (LabelSelector(match_labels={":namespace": "a"}), "matchLabels[:namespace]"),
    ],
)
def test_invalid_selector_names_the_field(selector: LabelSelector, field: str) -> None:
    assert [problem.field for problem in check_label_selector(selector)] == [field]
    with pytest.raises(InvalidSelector, match=r"must|takes|none of|not a"):
        parse_label_selector(selector)


@settings(deadline=None)
@given(st.lists(requirement_strategy, max_size=5), labels_strategy)
def test_canonical_form_keeps_the_meaning(requirements: list[Requirement], labels: dict[str, str]) -> None:
    assert conjunction(requirements).matches(labels) == all(r.matches(labels) for r in requirements)


@settings(deadline=None)
@given(st.lists(requirement_strategy, max_size=5).flatmap(lambda rs: st.tuples(st.just(rs), st.permutations(rs))))
def test_canonical_form_ignores_order_and_repetition(pair: tuple[list[Requirement], list[Requirement]]) -> None:
    once, shuffled = pair
    assert conjunction(once) == conjunction(shuffled + once)
    assert conjunction(conjunction(once).requirements) == conjunction(once)


@settings(deadline=None)
@given(selector_strategy, selector_strategy, labels_strategy)
def test_equal_keys_mean_equal_answers(one: Selector, other: Selector, labels: dict[str, str]) -> None:
    assert (one.key == other.key) == (one == other)
    assert all(any(_has(labels, pair) for pair in anchor) for anchor in one.anchors()) or not one.matches(labels)


def _has(labels: dict[str, str], pair: tuple[str, str | None]) -> bool:
    key, value = pair
    return key in labels and value in (None, labels[key])


def test_prefixed_reads_the_prefixed_labels() -> None:
    selector = parse_label_selector(LabelSelector(match_labels={"app": "a"})).prefixed(":ns:")
    assert selector.reads == {":ns:app"}
    assert selector.matches({":ns:app": "a"})
    assert not selector.matches({"app": "a"})


def test_everything_and_nothing() -> None:
    assert EVERYTHING.matches({})
    assert not NOTHING.matches({"": ""})
    assert EVERYTHING.anchors() == ()


# --- indices ----------------------------------------------------------------------------------------------------------

ITEMS = st.integers(0, 5)
NAMES = st.sampled_from("pqrst")
step_strategy = st.one_of(
    st.tuples(st.just("set_item"), ITEMS, labels_strategy),
    st.tuples(st.just("remove_item"), ITEMS),
    st.tuples(st.just("set_selector"), NAMES, selector_strategy),
    st.tuples(st.just("remove_selector"), NAMES),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(step_strategy, max_size=25))
def test_incremental_index_agrees_with_the_linear_one(steps: list[tuple[object, ...]]) -> None:
    linear: LinearIndex[int, str] = LinearIndex()
    incremental: IncrementalIndex[int, str] = IncrementalIndex()
    for method, *arguments in [*steps, *_teardown()]:
        expected = getattr(linear, str(method))(*arguments)
        actual: list[Change[str, int]] = getattr(incremental, str(method))(*arguments)
        assert sorted(actual) == sorted(expected)
        assert all(incremental.selectors_of(item) == linear.selectors_of(item) for item in range(6))
        assert all(incremental.items_of(name) == linear.items_of(name) for name in "pqrst")
    assert not any(vars(incremental).values()), "nothing may be left of what is gone"


def _teardown() -> list[tuple[object, ...]]:
    return [("remove_item", item) for item in range(6)] + [("remove_selector", name) for name in "pqrst"]


class CountingSelector:
    """A selector that counts how often it was tried."""

    def __init__(self, selector: Selector) -> None:
        self.selector, self.tried = selector, 0
        self.key, self.reads, self.anchors = selector.key, selector.reads, selector.anchors

    def matches(self, labels: Labels) -> bool:
        self.tried += 1
        return self.selector.matches(labels)


def test_equal_selectors_are_matched_once() -> None:
    index: IncrementalIndex[int, str] = IncrementalIndex()
    selector = CountingSelector(conjunction([Requirement("app", "In", ("a",))]))
    for item in range(100):
        index.set_item(item, {"app": "a"})
    assert len(index.set_selector("p", selector)) == 100
    assert len(index.set_selector("q", selector)) == 100
    assert selector.tried == 100


def test_only_selectors_that_could_match_are_tried() -> None:
    index: IncrementalIndex[int, int] = IncrementalIndex()
    selectors = [CountingSelector(conjunction([Requirement("app", "In", (f"a{n}",))])) for n in range(100)]
    for name, selector in enumerate(selectors):
        index.set_selector(name, selector)
    assert index.set_item(1, {"app": "a7", "tier": "x"}) == [Change(7, 1, True)]
    assert sum(selector.tried for selector in selectors) == 1


def test_the_less_crowded_anchor_is_taken() -> None:
    index: IncrementalIndex[int, str] = IncrementalIndex()
    for item in range(50):
        index.set_item(item, {"tier": "web", "app": f"a{item}"})
    selector = CountingSelector(conjunction([Requirement("tier", "In", ("web",)), Requirement("app", "In", ("a3",))]))
    assert index.set_selector("p", selector) == [Change("p", 3, True)]
    assert selector.tried == 1
