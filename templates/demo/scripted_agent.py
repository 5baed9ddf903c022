"""A scripted agent for the demo, which replaces a model and knows all answers.

It is called like any agent of the command harness: the prompt on stdin, the worktree as the current directory, its role
and ticket in the environment. It submits its work with `scriptorium submit-pr`.
"""

import os
import subprocess
import sys
from pathlib import Path

SPEC = """\
# tally

A module `tally` that counts the words of a text, and a command line for it.

1. `tally.count(text)` returns how often each word occurs, as a dict.
2. Upper and lower case are the same, and punctuation does not belong to a word.
3. `python3 -m tally FILE` prints the words of a file with their counts, most frequent first.
"""

AREAS = {
    "counting": "# Counting\n\nPoints 1 and 2 of the spec: the function `tally.count` and its tests.\n",
    "reporting": "# Reporting\n\nPoint 3 of the spec: `python3 -m tally FILE`.\n",
}

TICKETS = {
    "counting": {
        "count-words": ("Count words", "", "`tally.count(text)` returns a dict of word to count, with a test."),
        "ignore-case-and-punctuation": (
            "Ignore case and punctuation",
            "count-words",
            "`Tally, tally!` counts as two of `tally`, with a test.",
        ),
    },
    "reporting": {
        "command-line": ("A command line", "0001", "`python3 -m tally FILE` prints words and counts, with a test.")
    },
}

COUNT = """\
\"\"\"Counts the words of a text.\"\"\"


def count(text):
    words = {}
    for word in text.split():
        words[word] = words.get(word, 0) + 1
    return words
"""

COUNT_TEST = """\
import unittest

from tally import count


class Count(unittest.TestCase):
    def test_words_are_counted(self):
        self.assertEqual(count("to be or not to be"), {"to": 2, "be": 2, "or": 1, "not": 1})
"""

CASE_TEST = """\

    def test_case_and_punctuation_do_not_matter(self):
        self.assertEqual(count("Tally, tally!"), {"tally": 2})
"""

MAIN = """\


def main(path):
    with open(path) as file:
        words = count(file.read())
    for word, number in sorted(words.items(), key=lambda item: (-item[1], item[0])):
        print(f"{number:5} {word}")


if __name__ == "__main__":
    import sys

    main(sys.argv[1])
"""

MAIN_TEST = """\
import subprocess
import sys
import unittest


class CommandLine(unittest.TestCase):
    def test_words_of_a_file_are_printed(self):
        run = subprocess.run([sys.executable, "-m", "tally", "README.md"], capture_output=True, text=True)
        self.assertEqual(run.returncode, 0)
        self.assertIn("counts", run.stdout.lower())
"""


def architect(prompt: str) -> None:
    if "--- request ---" in prompt:  # a planning session
        Path("spec.md").write_text(SPEC)
        print("I wrote spec.md: a function, its rules, and a command line.")
        return
    for name, text in AREAS.items():
        Path("areas", f"{name}.md").write_text(text)


def manager() -> None:
    area = os.environ["SCRIPTORIUM_AREA"]
    for name, (title, depends, text) in TICKETS[area].items():
        header = f"---\narea: {area}\ndepends: [{depends}]\n---\n"
        Path("tickets", "open", f"{name}.md").write_text(f"{header}# {title}\n\n{text}\n")


def coding(prompt: str) -> None:
    ticket = os.environ["SCRIPTORIUM_TICKET"].split("-", 1)[1]
    module, test = Path("tally.py"), Path("test_tally.py")
    if ticket == "count-words":
        module.write_text(COUNT)
        test.write_text(COUNT_TEST)
        submit("Add tally.count with a test")
    elif ticket == "ignore-case-and-punctuation":
        if "Attempt 1 failed" not in prompt:
            # the first attempt forgets punctuation, so that the gate fails and the ticket is reopened
            module.write_text(module.read_text().replace("text.split()", "text.lower().split()"))
            test.write_text(test.read_text() + CASE_TEST)
            submit("Ignore case and punctuation when counting")
        else:
            better = 'word.strip(".,:;!?()`#")'
            module.write_text(
                module.read_text().replace(
                    "        words[word] = words.get(word, 0) + 1\n",
                    f"        word = {better}\n        if word:\n            words[word] = words.get(word, 0) + 1\n",
                )
            )
            submit("Strip punctuation as well, which the first attempt forgot")
    elif ticket == "command-line":
        module.write_text(module.read_text() + MAIN)
        Path("test_command_line.py").write_text(MAIN_TEST)
        submit("Add the command line")


def submit(summary: str) -> None:
    subprocess.run(["scriptorium", "submit-pr", summary], check=True)


if __name__ == "__main__":
    text = sys.stdin.read()
    match os.environ["SCRIPTORIUM_ROLE"]:
        case "architect":
            architect(text)
        case "manager":
            manager()
        case "coding":
            coding(text)
