"""Other tools' files: what is to be labelled, and labels, in and out.

A raters' file (docs/annotate.md) is the form in the middle: everything is read into its
lines and written from them.
"""
