"""What is promised: what the scripts that install or start something call, on which machine, and which failures they overlook.

`tests/unit/test_promises.py` runs each of them in each of these situations: nothing is installed or started. Whatever it
calls fails once, and then the script has to fail, unless `may_fail` has it: the script asks there, and "no" is an answer.
"""

from support.stand_ins import Situation

_SERVERS = {
    "mariadb": ("mariadbd", "mariadb-install-db"),
    "postgres": ("postgres", "initdb"),
    "redis": ("redis-server",),
    "chromium": ("chromium-browser", "google-chrome"),
}
"""By script: what it looks for. The first of them says its version, so that one that does not run is a failure."""
_INSTALLED = {
    "chromium": ["Chromium chromium"],
    "java": ["Java openjdk-17-jre-headless"],
    "mariadb": ["MariaDB mariadb-server"],
    "postgres": ["PostgreSQL postgresql"],
    "prometheus": ["promtool prometheus", "amtool prometheus-alertmanager"],
    "rabbitmq": ["RabbitMQ rabbitmq-server"],
    "redis": ["Redis redis-server"],
}
"""By script: what is installed where that is missing, and from which package of Debian."""
_QUIET = "DEBIAN_FRONTEND=noninteractive apt-get"
_KEYS = "usr/share/keyrings/debian-archive-keyring.gpg"
_OWN = (
    "-o Dir::Etc::SourceList=work/sources -o Dir::Etc::SourceParts=- -o Dir::State=work/state -o Dir::Cache=work/cache"
    " -o APT::Sandbox::User=0"
)
_RENDERS = "kubectl kustomize deploy/kubernetes/overlays/production"
_OFFICIAL, _BUILT = "docker image inspect postgres:15-bookworm", "docker image inspect ctcd-postgres:15"
_OF_COMPOSE = "COMPOSE_PROJECT_NAME=a IMAGE_PREFIX=a LATENCY_LIMIT_SECONDS=a"
_WITH_POSTGRES = f"{_OF_COMPOSE} POSTGRES_IMAGE=ctcd-postgres:15"
_COMPOSED = "docker compose --env-file .env --file docker/compose.yaml ps"
_IMAGES = [f"IMAGE_PREFIX=a docker image inspect a-{name}:local" for name in ("api", "ct", "airflow")]
_UP = "IMAGE_PREFIX=a compose.sh up --detach --wait --wait-timeout 600"
_UP_NEEDS = ("docker", "scripts/compose.sh", "scripts/make-env.sh", "scripts/slug.sh")
_SAID = {"python3": "a\n", "slug.sh": "a\n"}

SCRIPTS: dict[str, Situation] = {
    **{
        f"{name} is there": Situation(
            command=f"scripts/ensure-{name}.sh", there=programs, calls=(f"{programs[0]} --version",)
        )
        for name, programs in _SERVERS.items()
    },
    **{
        f"{name} is missing": Situation(
            command=f"scripts/ensure-{name}.sh",
            there=("scripts/install-server.sh",),
            calls=tuple(f"install-server.sh {each}" for each in installed),
        )
        for name, installed in _INSTALLED.items()
    },
    "java is there": Situation(command="scripts/ensure-java.sh", there=("java",), calls=("java -version",)),
    "rabbitmq is there": Situation(command="scripts/ensure-rabbitmq.sh", there=("rabbitmq-server",)),
    "prometheus is there": Situation(command="scripts/ensure-prometheus.sh", there=("amtool", "promtool")),
    "git is there": Situation(command="scripts/ensure-git.sh", there=("git",)),
    "git is missing": Situation(
        command="scripts/ensure-git.sh",
        there=("apt-get",),
        calls=(f"{_QUIET} update -qq", f"{_QUIET} install --yes --quiet --no-install-recommends git"),
    ),
    "git cannot be installed": Situation(command="scripts/ensure-git.sh", refuses=True),
    "server is installed": Situation(
        command="scripts/install-server.sh Redis redis-server",
        there=("apt-get",),
        files=("usr/sbin/a",),
        calls=(f"{_QUIET} update", f"{_QUIET} install --yes --no-install-recommends redis-server"),
    ),
    "server cannot be installed": Situation(command="scripts/install-server.sh Redis redis-server", refuses=True),
    "kubectl is there": Situation(
        command="scripts/ensure-kubectl.sh tools", there=("kubectl",), calls=(_RENDERS, "kubectl version --client")
    ),
    "kubectl is missing": Situation(
        command="scripts/ensure-kubectl.sh tools",
        there=("apt-get", "dpkg-deb", "mktemp", "work/usr/bin/kubectl"),
        files=("tools/a", _KEYS),
        says={"apt-get": "'https://deb.example/debian/dists/a' a\n", "mktemp": "work\n"},
        calls=(
            "apt-get update --print-uris",
            "mktemp -d",
            f"apt-get {_OWN} update -qq",
            f"apt-get {_OWN} download -qq kubectl",
            "dpkg-deb --extract kubectl_*.deb .",
            _RENDERS,
        ),
    ),
    "kubectl has no archive": Situation(
        command="scripts/ensure-kubectl.sh tools",
        there=("apt-get",),
        files=(_KEYS,),
        calls=("apt-get update --print-uris",),
        refuses=True,
    ),
    "environment is there": Situation(
        command="scripts/create-venv.sh .venv",
        there=("python3", ".venv/bin/python"),
        calls=("python3 -c", "python -m pip --version"),
        # Then it is created anew.
        may_fail=("python -m pip --version",),
    ),
    "environment is missing": Situation(
        command="scripts/create-venv.sh new",
        there=("python3",),
        calls=("python3 -c", "python3 --version", "python3 -c", "python3 -m venv new"),
    ),
    "environment of a newer Python": Situation(
        command="scripts/create-venv.sh new",
        there=("python3", "python3.13"),
        fail=("python3 -c import sys; sys.exit(sys.version_info < (3, 11))",),
        calls=("python3 -c", "python3.13 -c", "python3.13 --version", "python3.13 -c", "python3.13 -m venv new"),
    ),
    "environment without ensurepip": Situation(
        command="scripts/create-venv.sh new",
        there=("apt-get", "python3"),
        fail=("python3 -c import ensurepip",),
        calls=(
            *("python3 -c", "python3 --version", "python3 -c", "apt-get update -qq"),
            f"{_QUIET} install -y -qq --no-install-recommends python3-venv",
            "python3 -m venv new",
        ),
    ),
    "environment that cannot be created": Situation(
        command="scripts/create-venv.sh new",
        there=("python3",),
        fail=("python3 -c import ensurepip",),
        calls=("python3 -c", "python3 --version", "python3 -c"),
        refuses=True,
    ),
    "environment without Python": Situation(command="scripts/create-venv.sh .venv", refuses=True),
    # The hooks are a convenience: without a repository, or where git has others, there are none.
    "hooks are installed": Situation(
        command="scripts/install-hooks.sh",
        there=("git", ".venv/bin/pre-commit"),
        fail=("git config core.hooksPath",),
        calls=("git rev-parse --git-dir", "git config core.hooksPath", "pre-commit install --install-hooks"),
        may_fail=("git rev-parse --git-dir",),
    ),
    "hooks are elsewhere": Situation(
        command="scripts/install-hooks.sh",
        there=("git", ".venv/bin/pre-commit"),
        calls=("git rev-parse --git-dir", "git config core.hooksPath"),
        may_fail=("git rev-parse --git-dir", "git config core.hooksPath"),
    ),
    "passwords are made": Situation(
        command="scripts/make-env.sh .env",
        there=("cp", "mv", "readlink"),
        says={"readlink": ".env\n"},
        calls=("readlink -f .env", "cp -p .env .env.new", "mv .env.new .env"),
    ),
    # Whether PostgreSQL's image is there, or can be pulled, decides which one is used.
    "stack with an image that is there": Situation(
        command="scripts/up.sh",
        there=_UP_NEEDS,
        says=_SAID,
        calls=("slug.sh", *_IMAGES, "IMAGE_PREFIX=a make-env.sh .env", f"IMAGE_PREFIX=a {_OFFICIAL}", _UP),
        may_fail=(_OFFICIAL,),
    ),
    "stack with an image that is built": Situation(
        command="scripts/up.sh",
        there=_UP_NEEDS,
        says=_SAID,
        fail=(_OFFICIAL, "docker pull --quiet postgres:15-bookworm"),
        calls=(
            *("slug.sh", *_IMAGES, "IMAGE_PREFIX=a make-env.sh .env", f"IMAGE_PREFIX=a {_OFFICIAL}"),
            "IMAGE_PREFIX=a docker pull --quiet postgres:15-bookworm",
            (
                "DOCKER_BUILDKIT=1 IMAGE_PREFIX=a docker build --quiet --build-arg BASE=python:3.11-slim-bookworm"
                " --tag ctcd-postgres:15 docker/postgres"
            ),
            _UP,
        ),
    ),
    "compose with an image that is there": Situation(
        command="scripts/compose.sh ps",
        there=("docker", "python3", "scripts/slug.sh"),
        says=_SAID,
        calls=(
            *("slug.sh", "python3 -c"),
            f"{_OF_COMPOSE} {_OFFICIAL}",
            f"COMPOSE_PROFILES= {_OF_COMPOSE} {_COMPOSED}",
        ),
        may_fail=(_OFFICIAL,),
    ),
    "compose with an image that was built": Situation(
        command="scripts/compose.sh ps",
        there=("docker", "python3", "scripts/slug.sh"),
        says=_SAID,
        fail=(_OFFICIAL,),
        calls=(
            *("slug.sh", "python3 -c"),
            *(f"{_OF_COMPOSE} {inspected}" for inspected in (_OFFICIAL, _BUILT)),
            f"COMPOSE_PROFILES= {_WITH_POSTGRES} {_COMPOSED}",
        ),
        may_fail=(_BUILT,),
    ),
    "database is initialised": Situation(
        command="PGDATA=data POSTGRES_PASSWORD=a docker/postgres/entrypoint.sh postgres",
        there=("find", "initdb", "mv", "postgres", "rmdir"),
        files=("data/.fresh/a",),
        calls=(
            "find data -mindepth 1 -delete",
            (
                "initdb --pgdata=data/.fresh --username=postgres --encoding=UTF8 --auth-local=trust"
                " --auth-host=scram-sha-256 --pwfile=/dev/fd/63"
            ),
            "find data/.fresh -mindepth 1 -maxdepth 1 ! -name PG_VERSION -exec mv --target-directory=data {} +",
            "mv data/.fresh/PG_VERSION data/",
            "rmdir data/.fresh",
            "postgres -c listen_addresses=*",
        ),
    ),
    "alerts are sent": Situation(
        command="ALERT_WEBHOOK=http://a docker/alertmanager/start.sh",
        there=("alertmanager",),
        files=("docker/alertmanager/alertmanager.yml", "tmp/a"),
        calls=(
            "alertmanager --config.file=tmp/alertmanager.yml --storage.path=/alertmanager --cluster.listen-address=",
        ),
    ),
}
"""By situation: see `Situation`."""
