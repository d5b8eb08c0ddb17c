UV := .venv/bin/uv
lock:
	$(UV) pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 --group dev --group bootstrap --all-extras pyproject.toml -o requirements/dev.txt
