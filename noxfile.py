"""Longer chores in environments of their own: nox -l lists them, nox -s docs runs one."""

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "tests"]
PYPROJECT = nox.project.load_toml("pyproject.toml")
LOWEST = [
    need.replace(">=", "==") if need.startswith(("numpy", "array-api")) else need
    for need in PYPROJECT["project"]["dependencies"] + PYPROJECT["project"]["optional-dependencies"]["test"]
]


@nox.session
def lint(session: nox.Session) -> None:
    """Run ruff, mypy and import-linter."""
    session.install("-e", ".", *nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
    session.run("lint-imports", "--no-logo")


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """Run the tests; on more libraries as in: nox -s tests -- jax torch."""
    extras = ",".join(["test", *session.posargs])
    session.install("-e", f".[{extras}]")
    session.run("pytest", "-n", "auto")


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the tests on the lowest versions that are supported."""
    session.install(*LOWEST)
    session.run("python", "-m", "pytest", "-n", "auto")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site in build/docs, with warnings as errors, and look for dead links."""
    session.install("-e", ".[docs]")
    session.run("python", "-m", "sphinx", "-W", "--keep-going", "-b", "html", "docs", "build/docs")
    session.run("python", "scripts/check_links.py", "build/docs")


@nox.session
def package(session: nox.Session) -> None:
    """Build the wheel and the source, check their metadata, install each and run the check of packages."""
    session.install("build", "twine", "cffconvert")
    session.run("python", "-m", "build", "--outdir", "dist")
    session.run("twine", "check", "--strict", "dist/*")
    session.run("cffconvert", "--validate")
    session.install("--find-links", "dist", "--force-reinstall", "--no-deps", "--pre", "backprop-xp")
    session.install("numpy", "array-api-compat")
    session.chdir(session.create_tmp())
    session.run("python", f"{session.invoked_from}/scripts/check_package.py")
