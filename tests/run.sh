#!/usr/bin/env bash
# Sets up a virtual environment in .venv (or $VENV) and runs the test suite in it; arguments go to pytest.
# Browser tests need chromium, and two tests read PDFs of Debian packages: what is not there is skipped with a reason.
# On two cores this is quicker: OMP_NUM_THREADS=1 bash tests/run.sh --numprocesses 2 --dist loadfile
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-test.txt
exec "$venv/bin/python" -m pytest "$@"
