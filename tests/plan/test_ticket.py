"""Ticket files: every spelling is read, and a change touches one line only."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriptorium.plan.front_matter import append_section, set_field, split_front_matter
from scriptorium.plan.queue_item import format_item, parse_item
from scriptorium.plan.ticket import State, Ticket, TicketError, branch_of, parse_depends, parse_ticket, slug, ticket_id

FULL = """\
---
# written by hand
area: parser   # where it belongs
depends:
  - 0003
  - 0004
priority: 5
note: "keep: this"
---
# Parse the header

attempts: this is text
"""


def read(text: str, name: str = "0007-parse") -> Ticket:
    return parse_ticket(name, State.OPEN, text.encode(errors="surrogateescape"))


def changed_lines(old: str, new: str) -> tuple[list[str], list[str]]:
    """Return the differing lines of two texts, without the common beginning and end."""
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    while before and after and before[0] == after[0]:
        before, after = before[1:], after[1:]
    while before and after and before[-1] == after[-1]:
        before, after = before[:-1], after[:-1]
    return before, after


# -- reading --------------------------------------------------------------------------------------------


def test_front_matter_is_read() -> None:
    ticket = read(FULL)
    assert (ticket.id, ticket.area, ticket.depends, ticket.priority) == ("0007", "parser", ("0003", "0004"), 5)
    assert (ticket.attempts, ticket.repair, ticket.title) == (0, False, "Parse the header")
    assert (ticket.branch, ticket.path) == ("scriptorium/ticket-0007", "tickets/open/0007-parse.md")


def test_the_originals_bold_lines_are_read() -> None:
    ticket = read("# Ticket 1\n\n**Area:** a1\r\n**Depends:** 0003, 0004\n**Worktree:** /tmp/x\n\n## Agent Run\n")
    assert (ticket.area, ticket.depends, ticket.attempts) == ("a1", ("0003", "0004"), 0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ()), ("", ()), ("none", ()), ("None", ()), ("-", ()), ("n/a", ()), ([], ()), (["none"], ()),
        (3, ("0003",)), ("3", ("0003",)), ("012", ("0012",)), (12, ("0012",)), ("10000", ("10000",)),
        ("0003, 0004", ("0003", "0004")), ("0003 0004", ("0003", "0004")), ([3, "0004"], ("0003", "0004")),
        ("0003-parse", ("0003",)), ("tickets/open/0003-parse.md", ("0003",)), ("#3", ("0003",)),
        ("0003, 3", ("0003",)),
    ],
)  # fmt: skip
def test_depends_is_read_in_all_its_spellings(value: object, expected: tuple[str, ...]) -> None:
    assert parse_depends(value) == expected


@pytest.mark.parametrize("line", ["depends: 0012", "depends: [0012]", "depends:\n- 0012", "depends: '0012'"])
def test_an_id_with_zeros_in_front_is_not_an_octal_number(line: str) -> None:
    assert read(f"---\narea: core\n{line}\n---\n").depends == ("0012",)


@pytest.mark.parametrize("line", ["", "depends:", "depends: none", "depends: []", "depends: '-'", "depends: ~"])
def test_a_ticket_may_depend_on_nothing_in_many_ways(line: str) -> None:
    assert read(f"---\narea: core\n{line}\n---\n").depends == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("---\narea: [core\n---\n", "its front matter is not YAML in line 3: "),
        ("---\narea: core\n", "its front matter has no closing '---' line"),
        ("---\n- core\n---\n", "its front matter is not a list of 'key: value' lines"),
        ("---\narea: core\narea: other\n---\n", "its front matter is not YAML in line 3: "),
        ("---\narea: \x01\n---\n", "its front matter is not YAML: "),
        ("---\narea: !!python/object:os.system x\n---\n", "its front matter has an unsupported YAML tag in line 2"),
        ("---\ndepends: []\n---\n", "it names no area"),
        ("---\narea: ''\n---\n", "it names no area"),
        ("", "it names no area"),
        ("# Only text\n", "it names no area"),
        ("---\narea: core\ndepends: soon\n---\n", "'depends' names 'soon', which is not a ticket id"),
        ("---\narea: core\npriority: high\n---\n", "'priority' is not a whole number: 'high'"),
        ("---\narea: core\nattempts: 1.5\n---\n", "'attempts' is not a whole number: '1.5'"),
        ("---\narea: core\nattempts: yes\n---\n", "'attempts' is not a whole number: 'yes'"),
        ("---\narea: core\npriority: [1]\n---\n", "'priority' is not a whole number: '[1]'"),
    ],
)
def test_a_ticket_that_cannot_be_understood_says_why(text: str, why: str) -> None:
    with pytest.raises(TicketError) as caught:
        read(text)
    assert caught.value.message.startswith(f"ticket '0007-parse': {why}")
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_bytes_that_are_no_text_are_kept() -> None:
    data = b"---\narea: core\n---\n# Caf\xe9 \xff\n"
    ticket = parse_ticket("0001-x", State.OPEN, data)
    changed = set_field(ticket.text, "attempts", 1).encode(errors="surrogateescape")
    assert changed == b"---\narea: core\nattempts: 1\n---\n# Caf\xe9 \xff\n"


# -- names ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0001-thing", "0001"), ("1-thing", "0001"), ("0001", "0001"), ("12345-x", "12345"), ("0114-0106-x", "0114"),
        ("thing", ""), ("1thing", ""), ("-1", ""), ("", ""),
    ],
)  # fmt: skip
def test_the_id_is_the_number_before_the_first_dash(name: str, expected: str) -> None:
    assert ticket_id(name) == expected


@pytest.mark.parametrize(
    "name", ["0001-größe 大", '0001-it\'s "quoted"', "0001-  spaces", "0001-a.b.md", "0001-\udce9"]
)
def test_any_printable_name_is_a_ticket(name: str) -> None:
    ticket = read(FULL, name)
    assert (ticket.name, ticket.id, branch_of(name)) == (name, "0001", "scriptorium/ticket-0001")


def test_a_name_with_control_characters_is_refused() -> None:
    with pytest.raises(TicketError, match="its name has control characters"):
        read(FULL, "0001-two\nlines")


@pytest.mark.parametrize(
    ("title", "expected"),
    [("Parse the header!", "parse-the-header"), ("Größe 大", "größe-大"), ("../../etc", "etc"), ("---", "ticket"),
     ("word " * 20, "word-word-word-word-word-word-word-word-word-wor")],
)  # fmt: skip
def test_a_slug_is_short_and_safe(title: str, expected: str) -> None:
    assert slug(title) == expected


# -- changing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "old", "new"),
    [
        ("priority", 7, ["priority: 5\n"], ["priority: 7\n"]),
        ("area", "lexer", ["area: parser   # where it belongs\n"], ["area: lexer   # where it belongs\n"]),
        ("depends", "[0009]", ["depends:\n", "  - 0003\n", "  - 0004\n"], ["depends: [0009]\n"]),
        ("attempts", 1, [], ["attempts: 1\n"]),
    ],
)
def test_a_change_touches_only_the_lines_of_its_field(key: str, value: object, old: list[str], new: list[str]) -> None:
    assert changed_lines(FULL, set_field(FULL, key, value)) == (old, new)


def test_line_ends_of_windows_stay() -> None:
    text = FULL.replace("\n", "\r\n")
    changed = set_field(set_field(text, "attempts", 1), "depends", "[0009]")
    assert re.findall(r"(?<!\r)\n", changed) == []
    assert (read(changed).attempts, read(changed).depends) == (1, ("0009",))


def test_a_file_that_ends_with_its_front_matter_can_be_changed() -> None:
    assert set_field("---\narea: core\n---", "attempts", 2) == "---\narea: core\nattempts: 2\n---"


def test_the_originals_tickets_keep_their_form() -> None:
    text = "# Ticket 1\n\n**Area:** a1\n**Attempts:** 1\n\nText\n"
    assert set_field(text, "attempts", 2) == text.replace("**Attempts:** 1", "**Attempts:** 2")
    assert set_field(text, "depends", "[0003, 0004]") == text.replace(
        "**Area:** a1\n", "**Area:** a1\n**Depends:** 0003, 0004\n"
    )
    assert read(set_field("**Area:** a1", "attempts", 1)).attempts == 1


def test_a_change_that_the_front_matter_cannot_take_is_refused() -> None:
    with pytest.raises(ValueError, match="'attempts' cannot be set to '1'"):
        set_field("---\n{area: core}\n---\n", "attempts", 1)


def test_a_section_is_added_at_the_end() -> None:
    assert append_section("# Thing\n\n\n", "Attempt 1 failed", "\nwhy\n") == "# Thing\n\n## Attempt 1 failed\n\nwhy\n"


names = st.from_regex(r"[a-z]{1,8}", fullmatch=True).filter(lambda name: name not in ("attempts", "null", "y", "n"))
values = st.one_of(
    st.integers(-99, 99).map(str),
    st.from_regex(r"[a-z]{1,8}", fullmatch=True),
    st.from_regex(r"'[^'\n\r\x00-\x1f\x7f-\x9f\u2028\u2029]{0,12}'", fullmatch=True).filter(str.isprintable),
    st.lists(st.from_regex(r"[0-9]{4}", fullmatch=True), max_size=3).map(lambda ids: f"[{', '.join(ids)}]"),
    st.lists(st.from_regex(r"[a-z]{1,4}", fullmatch=True), min_size=1).map(
        lambda words: "".join(f"\n  - {word}" for word in words)
    ),
)
comments = st.sampled_from(["", " # why", "   # attempts: 9"])


@given(
    fields=st.dictionaries(names, st.tuples(values, comments), max_size=5),
    attempts=st.none() | st.tuples(values, comments),
    at=st.integers(0, 5),
    rest=st.sampled_from(["", "# Title\n", "attempts: 1\n---\nattempts: 2\n", "no line end"]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_setting_a_field_changes_its_lines_alone(
    fields: dict[str, tuple[str, str]], attempts: tuple[str, str] | None, at: int, rest: str, end: str
) -> None:
    lines = [
        f"{key}: {value}{'' if value.startswith(chr(10)) else comment}" for key, (value, comment) in fields.items()
    ]
    own = f"attempts: {attempts[0]}{'' if attempts[0].startswith(chr(10)) else attempts[1]}" if attempts else ""
    if attempts:
        lines.insert(at, own)
    text = f"---\n{''.join(f'{line}{chr(10)}' for line in lines)}---\n{rest}".replace("\n", end)

    changed = set_field(text, "attempts", 7)

    old, new = changed_lines(text, changed)
    assert "".join(new).split("#")[0].strip() in ("attempts: 7", "")  # '' where it was 7 before
    assert "".join(old).replace("\r\n", "\n") in (f"{own}\n" if attempts else "", "")
    assert set_field(changed, "attempts", 7) == changed
    parts = split_front_matter(changed)
    assert parts is not None
    assert parts[1] == f"---\n{rest}".replace("\n", end)


# -- queue items ----------------------------------------------------------------------------------------


def test_a_queue_item_is_read_as_it_was_written() -> None:
    data = format_item(read(FULL), "/some/where", "a" * 40, f"did\n**Head:** {'b' * 40}\nit")
    item = parse_item("queue/merge/pending/0012-0007-parse.md", data)
    assert item is not None
    assert (item.ticket, item.order[0], item.head) == ("0007-parse", 12, "a" * 40)
    assert item.summary == f"did **Head:** {'b' * 40} it"
    assert b"**Ticket ID:** 0007\n**Branch:** scriptorium/ticket-0007\n**Worktree:** /some/where\n" in data


def test_the_originals_queue_item_is_read() -> None:
    data = b"# Merge Queue Item\r\n\r\n**Ticket:** tickets/in-progress/0001-thing-1.md\r\n**Ticket ID:** 0001\r\n"
    item = parse_item("queue/merge/pending/0001-0001.md", data)
    assert item is not None
    assert (item.ticket, item.order[0]) == ("0001-thing-1", 1)


@pytest.mark.parametrize("data", [b"", b"# Merge Queue Item\n", b"\xff\xfe", b"**Ticket ID:** 0001\n"])
def test_a_file_that_is_no_queue_item_is_none(data: bytes) -> None:
    assert parse_item("queue/merge/pending/0001-0001.md", data) is None


# -- what fuzzing found ---------------------------------------------------------------------------------

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))


@pytest.mark.parametrize(
    ("head", "why"),
    [
        ("area: core\nx: " + "[" * 5000, "nested too deeply"),
        (BOMB, "an unsupported YAML anchor in line 2"),
        ("area: core\na: &a [*a]", "an unsupported YAML anchor in line 3"),
        ("area: core\nx: " + "y" * 100_000, "too long"),
        ("area: {x: y}", "a list or a mapping where a word should be"),
        ("area: core\npriority: [1]", "'priority' is not a whole number"),
        ("area: core\npriority: 9999999999", "'priority' is not a whole number"),
        ('area: "a\\0b"', "not a line of text"),
        ('area: "\\ud800"', ""),
    ],
)  # fmt: skip
def test_front_matter_that_is_made_to_break_readers_is_refused(head: str, why: str) -> None:
    with pytest.raises(TicketError, match=why):
        read(f"---\n{head}\n---\n# T\n")


@pytest.mark.parametrize("name", ["..", ".x", "a/b", "a\nb", "a\x1bb", "x" * 201, ""])
def test_a_name_that_no_file_should_have_is_refused(name: str) -> None:
    with pytest.raises(TicketError, match="its name"):
        read(FULL, name)


def test_more_digits_than_a_number_has_are_no_id() -> None:
    assert (ticket_id("9" * 5000), ticket_id("9" * 18), ticket_id("²")) == ("", "9" * 18, "")


def test_the_field_that_is_set_is_the_one_that_is_read() -> None:
    text = "# T\n\n**Area:** a\n**Attempts:** 1\n**Attempts:** 0\n"
    assert read(set_field(text, "attempts", 2)).attempts == 2


@pytest.mark.parametrize(
    ("head", "why"),
    [
        ("area: &a x", "an unsupported YAML anchor in line 2"),
        ("area: core\nx:\n- &b [1]", "an unsupported YAML anchor in line 4"),
        ("area: &a x\ny: &a z", "an unsupported YAML anchor in line 2"),
        ("area: core\ny: *a", "an unsupported YAML alias in line 3"),
        ("area: core\n<<: *a", "an unsupported YAML alias in line 3"),
        ("area: core\npriority: !!int 3", "an unsupported YAML tag in line 3"),
        ("area: core\nx: !mine {a: b}", "an unsupported YAML tag in line 3"),
        ("area: core\nx: ! y", "an unsupported YAML tag in line 3"),
    ],
)
def test_front_matter_with_anchors_aliases_or_tags_is_refused(
    capsys: pytest.CaptureFixture[str], head: str, why: str
) -> None:
    with pytest.raises(TicketError) as caught:
        read(f"---\n{head}\n---\n# T\n")
    assert caught.value.why == f"its front matter has {why}"
    assert capsys.readouterr().err == ""


def test_signs_of_anchors_inside_of_words_are_text() -> None:
    assert read("---\narea: a&b*c!d\nx: 'R&D *and* !'\n---\n").area == "a&b*c!d"
