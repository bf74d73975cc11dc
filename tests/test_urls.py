"""Web addresses of repositories and commits; URLs without credentials."""

from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otel_agent_telemetry.urls import PLATFORMS, PUBLIC_HOSTS, commit_url, repo_url, without_credentials

SHA = "0123456789abcdef0123456789abcdef01234567"
GITHUB = "https://github.com/owner/repo"
OWN = {"git.example.com": "gitlab", "code.example.org": "github", "Stash.Example.net:8443": "bitbucket"}


@pytest.mark.parametrize(
    "remote",
    [
        "https://github.com/owner/repo",
        "https://github.com/owner/repo.git",
        "https://github.com/owner/repo/",
        "https://github.com/owner/repo.git/",
        "http://github.com/owner/repo.git",
        "https://www.github.com/owner/repo",
        "https://GitHub.com/owner/repo",
        "https://github.com:443/owner/repo.git",
        "https://user:password@github.com/owner/repo.git",
        "https://token@github.com/owner/repo.git",
        "https://github.com/owner/repo.git?ref=main#readme",
        "ssh://git@github.com/owner/repo.git",
        "ssh://git@github.com:22/owner/repo.git",
        "git+ssh://git@github.com/owner/repo.git",
        "git://github.com/owner/repo.git",
        "git@github.com:owner/repo.git",
        "git@github.com:owner/repo",
        "git@github.com:/owner/repo.git/",
        "github.com:owner/repo",
    ],
)
def test_every_form_of_a_remote_is_one_address(remote: str) -> None:
    """https, http, ssh, git and scp forms, with or without `.git`, port, slash or credentials."""
    assert repo_url(remote) == GITHUB
    assert commit_url(remote, SHA) == f"{GITHUB}/commit/{SHA}"


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("git@gitlab.com:group/repo.git", "https://gitlab.com/group/repo/-/commit/"),
        (
            "https://gitlab.com/group/sub/deeper/repo.git",
            "https://gitlab.com/group/sub/deeper/repo/-/commit/",
        ),
        ("https://bitbucket.org/team/repo.git", "https://bitbucket.org/team/repo/commits/"),
        ("https://git.example.com/g/s/repo.git", "https://git.example.com/g/s/repo/-/commit/"),
        ("ssh://git@git.example.com:2222/g/repo.git", "https://git.example.com/g/repo/-/commit/"),
        ("http://git.example.com:3000/g/repo.git", "https://git.example.com/g/repo/-/commit/"),
        ("https://git.example.com:8443/g/repo", "https://git.example.com:8443/g/repo/-/commit/"),
        ("git@code.example.org:o/r.git", "https://code.example.org/o/r/commit/"),
        ("https://stash.example.net:8443/t/r", "https://stash.example.net:8443/t/r/commits/"),
    ],
)
def test_each_platform_has_its_own_path_to_a_commit(remote: str, address: str) -> None:
    """GitLab groups may nest; self-hosted platforms are known by configuration, by host or host:port."""
    assert commit_url(remote, "abc1234", hosts=OWN) == address + "abc1234"


@pytest.mark.parametrize(
    "remote",
    [
        None,
        "",
        "repo",
        "owner/repo",
        "github.com/owner/repo",
        "https://github.com",
        "https://github.com/",
        "https://github.com/owner",
        "https://github.com/owner/.git",
        "https://github.com/owner/repo/tree/main",
        "https://gitlab.com/group/repo/-/tree/main",
        "https://notgithub.com/owner/repo",
        "https://github.com.evil.example/owner/repo",
        "https://evil.example/github.com/owner/repo",
        "https://evil.example/?x=https://github.com/owner/repo",
        "https://evil.example#@github.com/owner/repo",
        "https://evil.example?@github.com/owner/repo",
        "https://evil.example\\@github.com/owner/repo",
        "https://github.com@evil.example/owner/repo",
        "https://github.com:x@evil.example/owner/repo",
        "https://www.www.github.com/owner/repo",
        "https://gіthub.com/owner/repo",  # noqa: RUF001 - a Cyrillic letter is the point
        "git@evil.example:github.com/owner",
        "git@github.com.evil.example:owner/repo",
        "https://github.com/../owner/repo",
        "https://github.com/owner/../repo",
        "https://github.com/owner/..",
        "https://github.com/owner/...git",
        "https://gitlab.com/a/b/../../c",
        "https://github.com/owner/%2e%2e",
        "https://github.com//repo",
        "https://gitlab.com/group//repo",
        "https://github.com/own er/repo",
        " https://github.com/owner/repo",
        "https://github.com/owner/repo\n",
        "https://github.com/owner/re\tpo",
        "https://github.com/owner/re\x00po",
        "https://github.com/owner/re\u00a0po",
        "https://github.com/owner/re\u202epo",
        "https://github.com/owner/<script>",
        'https://github.com/owner/re"po',
        "https://github.com:port/owner/repo",
        "javascript://github.com/owner/repo",
        "file:///srv/github.com/owner/repo",
        "/srv/git/repo.git",
        "C:/git/repo",
        "https://git.unknown.example/g/repo",
    ],
)
def test_what_does_not_fit_has_no_address(remote: str | None) -> None:
    """Other hosts, hosts that contain a known one, odd characters and odd paths are None."""
    assert repo_url(remote, hosts=OWN) is None
    assert commit_url(remote, SHA, hosts=OWN) is None


@pytest.mark.parametrize("sha", [None, "", "abc123", "a" * 65, "g" * 40, "abc1234\n", " abc1234", "abc1234/..", "HEAD"])
def test_a_commit_needs_7_to_40_hex_digits(sha: str | None) -> None:
    """Anything else is no commit."""
    assert commit_url(GITHUB, sha) is None


@pytest.mark.parametrize("sha", ["abc1234", "ABCDEF0", SHA])
def test_a_commit_of_7_to_40_hex_digits_has_an_address(sha: str) -> None:
    """Short and full ids are taken as they are."""
    assert commit_url(GITHUB, sha) == f"{GITHUB}/commit/{sha}"


def test_a_host_configured_as_something_else_has_no_address() -> None:
    """An unknown platform name builds nothing."""
    assert repo_url("https://git.example.com/g/r", hosts={"git.example.com": "gitea"}) is None


pieces = st.sampled_from(
    [
        "https://",
        "ssh://",
        "http://",
        "git@",
        "github.com",
        "gitlab.com",
        "evil.example",
        "www.",
        ":",
        "@",
        "/",
        "..",
        ".git",
        "owner",
        "repo",
        "?",
        "#",
        "\\",
        "%2e",
        "user:pw",
        "8443",
        "-",
        "é",
    ]
) | st.sampled_from([" ", "\n"])


@given(st.lists(pieces | st.text(max_size=3), max_size=12).map("".join))
def test_whatever_has_an_address_has_a_safe_one(remote: str) -> None:
    """The result is https on exactly a known host, with a plain path and nothing else."""
    address = repo_url(remote, hosts=OWN)
    if address is None:
        return
    parts = urlsplit(address)
    assert parts.scheme == "https"
    assert parts.netloc in PUBLIC_HOSTS or parts.hostname in {name.lower().partition(":")[0] for name in OWN}
    assert "@" not in address
    assert (parts.query, parts.fragment) == ("", "")
    assert address.isprintable()
    assert " " not in address
    assert not {"..", ".", ""} & set(parts.path[1:].split("/"))
    assert repo_url(address, hosts=OWN) == address


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        ("https://user:pw@host/x", "https://host/x"),
        ("https://token@host/x.git", "https://host/x.git"),
        ("http://u:p@host:8765/a?b=c#d", "http://host:8765/a?b=c#d"),
        ("https://u:p@ss@host/x", "https://host/x"),
        ("https://u:p/ss@host/x", "https://host/x"),
        ("postgresql+psycopg://u:p@h/db", "postgresql+psycopg://h/db"),
        (
            "postgresql+psycopg://u:p@h:5432/db?sslmode=require",
            "postgresql+psycopg://h:5432/db?sslmode=require",
        ),
        ("postgresql://h/db?user=u&password=p&sslmode=require", "postgresql://h/db?user=u&sslmode=require"),
        ("postgresql://h/db?password=p", "postgresql://h/db"),
        ("https://h/x?token=abc#top", "https://h/x#top"),
        ("sqlite:////var/lib/a@b/telemetry.sqlite", "sqlite:////var/lib/a@b/telemetry.sqlite"),
        ("sqlite://", "sqlite://"),
        ("ssh://u:p@host:22/o/r.git", "ssh://host:22/o/r.git"),
        ("git@github.com:owner/repo.git", "git@github.com:owner/repo.git"),
        ("u:p@github.com:owner/repo.git", "github.com:owner/repo.git"),
        ("ghp_secret@github.com:owner/repo.git", "github.com:owner/repo.git"),
        ("https://[::1]:8765/x@y", "https://[::1]:8765/x@y"),
        ("https://host:8080/path@v2", "https://host:8080/path@v2"),
        ("/srv/git/a@b/repo.git", "/srv/git/a@b/repo.git"),
        ("C:\\Users\\me@corp\\repo", "C:\\Users\\me@corp\\repo"),
        ("me@example.com", "me@example.com"),
        ("", ""),
    ],
)
def test_credentials_go_and_the_rest_stays(url: str, bare: str) -> None:
    """User, password and secret query members are dropped from any form of URL, nothing else."""
    assert without_credentials(url) == bare
    assert without_credentials(bare) == bare


@given(
    st.sampled_from(["https", "http", "ssh", "postgresql+psycopg", "mysql"]),
    st.text(st.characters(exclude_characters="/?#@:", exclude_categories=["Cs"])),
    st.text(st.characters(exclude_characters="?#", exclude_categories=["Cs"]), min_size=1),
)
@example("https", "", ":@/")
@example("https", "bob", "a@/secret")
def test_no_password_survives(scheme: str, user: str, password: str) -> None:
    """Whatever a password holds, the URL without credentials is the one that never had them."""
    first = password.partition("/")[0]
    if "/" in password and "@" in first and first.rpartition("@")[2]:
        return  # `user:a@b/x@host` is a host and a path with an @ in it
    head = password.partition("/")[0].partition("@")[0]
    if "/" in password and (head == "" or head.isdecimal()):
        return  # `user:8080/x@host` is a host, a port and a path
    assert without_credentials(f"{scheme}://{user}:{password}@host/db") == f"{scheme}://host/db"


def test_platforms_are_those_of_the_public_hosts() -> None:
    """Every public host's platform can be configured for an own host."""
    assert set(PUBLIC_HOSTS.values()) == set(PLATFORMS)
