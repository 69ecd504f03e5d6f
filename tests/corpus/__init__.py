"""The judge of the reader: rules that others wrote, and what the real tools say of them.

`python -m tests.corpus` prints the table of each law and what breaks it; expected.tsv lists what may, and why:

* reading: what a tool loads is read, what both refuse is refused or found;
* understood: none of what an exact meaning can be told of is opaque anywhere;
* meaning: what is spelled of it loads, and is printed back as the file itself;
* listings: a listing means what the save text of the same rules means;
* extensions: the iptables project's own tests of its extensions, line by line;
* scripts, golden: commands are read to what they leave behind, Istio's golden files in both families;
* lines, syntax: single rules, and single questions of iptables-restore's syntax;
* ipsets: sets of ip addresses are read as `ipset restore` makes them;
* placement: in which chains of which tables each extension loads.

`python -m tests.corpus.differential` and `python -m tests.fuzz_text` go on with rules and texts at random.
"""
