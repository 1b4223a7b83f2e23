"""The checker is a script of its own; collecting it would ask for mpmath."""

collect_ignore = ["check_articles.py"]
