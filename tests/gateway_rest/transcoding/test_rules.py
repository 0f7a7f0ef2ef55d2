"""Rules that cannot be served are refused at start, naming file, RPC and binding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway_rest import contract
from gateway_rest.transcoding import rules

HEAD = """
syntax = "proto3";
package bad.v1;
import "google/api/annotations.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
message In {
  string id = 1;
  Sub sub = 2;
  repeated string tags = 3;
  map<string, string> attributes = 4;
  google.protobuf.Struct free = 5;
  google.protobuf.Timestamp time = 6;
  google.protobuf.StringValue word = 7;
  oneof choice {
    string left = 8;
    string right = 9;
    Sub third = 10;
  }
  repeated Sub subs = 11;
  Color color = 12;
}
enum Color { COLOR_UNSPECIFIED = 0; }
message Sub { string id = 1; repeated Sub more = 2; }
message Out { string id = 1; }
message WithError { string error = 1; }
message WithFields { string fields = 1; }
message WithPretty { bool pretty_print = 1; }
"""

BAD = [
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{nope}"}; }', 'has no field "nope"'),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{tags}"}; }', "is a list or map"),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{attributes}"}; }', "is a list or map"),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{sub}"}; }', "it is a message"),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{sub.more.id}"}; }', "is a list or map"),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{id.x}"}; }', "has no fields"),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{id}b"}; }', "next to a variable"),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a", body: "*"}; }', "GET must not have a body"),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {delete: "/a", body: "*"}; }', "DELETE must not have a body"),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {post: "/a", body: "nope"}; }', 'body "nope" is not a field'),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {post: "/a", body: "sub.id"}; }', 'body "sub.id" is not a field'),
    (
        'rpc Go(In) returns (Out) { option (google.api.http) = {post: "/a/{id}", body: "id"}; }',
        "bound by the path and by the body",
    ),
    (
        'rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a", response_body: "x"}; }',
        'no field "x" for response_body',
    ),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {body: "*"}; }', "has no HTTP method"),
    ('rpc Go(stream In) returns (Out) { option (google.api.http) = {post: "/a", body: "*"}; }', "streams from the client"),
    ('rpc Go(In) returns (stream WithError) { option (google.api.http) = {get: "/a"}; }', 'a field "error"'),
    ('rpc Go(WithFields) returns (Out) { option (google.api.http) = {get: "/a"}; }', '"fields" is reserved'),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{free}"}; }', "it is a message"),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{left}/{right}"}; }', "of which a message has only one"),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{left}/{third.id}"}; }', "of which a message has only one"),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{id}/{id}"}; }', 'binds "id" twice'),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/%ff"}; }', "no UTF-8"),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "a"}; }', 'must begin with "/"'),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{x=**}/*"}; }', 'has a wildcard after "**"'),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a", response_body: "sub.id"}; }', "for response_body"),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a", body: "sub"}; }', "GET must not have a body"),
    (
        'rpc Go(In) returns (Out) { option (google.api.http) = {custom: {kind: "get", path: "/a"}, body: "*"}; }',
        "GET must not have a body",
    ),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {custom: {kind: "HEAD", path: "/a"}}; }', "HEAD is served by GET"),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {custom: {kind: "A B", path: "/a"}}; }', '"A B" is no method'),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {custom: {path: "/a"}}; }', '"" is no method'),
    ('rpc Go(stream In) returns (stream Out) { option (google.api.http) = {get: "/a"}; }', "streams from the client"),
    ('rpc Go(WithPretty) returns (Out) { option (google.api.http) = {get: "/a"}; }', '"pretty_print" is reserved'),
    (
        """rpc Go(In) returns (Out) {
          option (google.api.http) = {get: "/a" additional_bindings {get: "/b/{nope}"}};
        }""",
        "binding 1 (GET /b/{nope})",
    ),
    (
        """rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{id}" additional_bindings {get: "/a/{left}"}}; }""",
        "belong to test.proto: bad.v1.S.Go, binding 0 (GET /a/{id})",
    ),
    (
        """rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{id=**}"}; }
        rpc Other(In) returns (Out) { option (google.api.http) = {custom: {kind: "get", path: "/%61/**"}}; }""",
        "belong to test.proto: bad.v1.S.Go, binding 0",
    ),
    (
        """rpc Go(In) returns (Out) {
          option (google.api.http) = {get: "/a" additional_bindings {get: "/b" additional_bindings {get: "/c"}}};
        }""",
        "of its own",
    ),
    (
        """rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{id}"}; }
        rpc Other(In) returns (Out) { option (google.api.http) = {get: "/a/{sub.id}"}; }""",
        "belong to test.proto: bad.v1.S.Go, binding 0 (GET /a/{id})",
    ),
]


@pytest.mark.parametrize(("text", "complaint"), BAD)
def test_a_bad_rule_is_refused_by_name(text: str, complaint: str, compile_proto: Callable[[str, str], Any]) -> None:
    compiled = compile_proto(f"{HEAD}\nservice S {{\n{text}\n}}\n", "bad.v1")
    with pytest.raises(rules.RuleError) as caught:
        rules.load(compiled.files, compiled.pool, compiled.packages)
    assert complaint in str(caught.value)
    assert "test.proto: bad.v1.S." in str(caught.value)
    assert "binding" in str(caught.value)


GOOD = [
    ('{get: "/"}', "GET /"),
    ('{get: "/a/{id}"}', "GET /a/*"),
    ('{get: "/a/{id=b/*/c}/d"}', "GET /a/b/*/c/d"),
    ('{get: "/a/{id=**}:go"}', "GET /a/**:go"),
    ('{get: "/a/{id=b/**}/c"}', "GET /a/b/**/c"),
    ('{get: "/a/{sub.id}/{time}/{word}/{color}"}', "GET /a/*/*/*/*"),
    ('{get: "/a/{third.id}"}', "GET /a/*"),
    ('{put: "/a" body: "sub"}', "PUT /a"),
    ('{patch: "/a/{sub.id}" body: "sub"}', "PATCH /a/*"),
    ('{post: "/a" body: "subs" response_body: "id"}', "POST /a"),
    ('{post: "/a" body: "attributes"}', "POST /a"),
    ('{post: "/a" body: "id"}', "POST /a"),
    ('{post: "/a"}', "POST /a"),
    ('{delete: "/a/{id}"}', "DELETE /a/*"),
    ('{custom: {kind: "*" path: "/a"}}', "* /a"),
    ('{custom: {kind: "report" path: "/a"} body: "*"}', "REPORT /a"),
]


@pytest.mark.parametrize(("rule", "route"), GOOD)
def test_a_rule_becomes_a_binding(rule: str, route: str, compile_proto: Callable[[str, str], Any]) -> None:
    text = f"service S {{ rpc Go(In) returns (Out) {{ option (google.api.http) = {rule}; }} }}"
    compiled = compile_proto(HEAD + text, "bad.v1")
    (binding,) = rules.load(compiled.files, compiled.pool, compiled.packages).bindings
    assert f"{binding.method} {binding.template.shape}" == route
    assert binding.path == "/bad.v1.S/Go"


def test_additional_bindings_reach_the_same_rpc_each_in_its_own_way(compile_proto: Callable[[str, str], Any]) -> None:
    text = """service S { rpc Go(In) returns (Out) { option (google.api.http) = {
      post: "/a/{id}" body: "*"
      additional_bindings {get: "/a/{id}" response_body: "id"}
      additional_bindings {put: "/b/{sub.id}" body: "sub"}
    }; } }"""
    compiled = compile_proto(HEAD + text, "bad.v1")
    loaded = rules.load(compiled.files, compiled.pool, compiled.packages)
    assert [(binding.index, binding.method, binding.body, binding.response_body) for binding in loaded.bindings] == [
        (0, "POST", "*", ""),
        (1, "GET", "", "id"),
        (2, "PUT", "sub", ""),
    ]
    found, segments, _ = loaded.trie.find("PUT", b"/b/x")
    assert found is loaded.bindings[2]
    assert segments == [b"b", b"x"]


def test_a_method_of_its_own_comes_before_the_rule_for_all(compile_proto: Callable[[str, str], Any]) -> None:
    text = """service S {
      rpc Any(In) returns (Out) { option (google.api.http) = {custom: {kind: "*", path: "/a/{id}"}}; }
      rpc Get(In) returns (Out) { option (google.api.http) = {get: "/a/{id}"}; }
    }"""
    compiled = compile_proto(HEAD + text, "bad.v1")
    trie = rules.load(compiled.files, compiled.pool, compiled.packages).trie
    for method, name in (("GET", "Get"), ("HEAD", "Get"), ("DELETE", "Any"), ("REPORT", "Any")):
        found, _, _ = trie.find(method, b"/a/x")
        assert found is not None
        assert found.rpc.name == name


def test_packages_that_were_not_named_have_no_routes(compile_proto: Callable[[str, str], Any]) -> None:
    text = 'service S { rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a"}; } rpc Silent(In) returns (Out); }'
    compiled = compile_proto(HEAD + text, "bad.v1")
    assert rules.load(compiled.files, compiled.pool, ("other.v1",)).bindings == ()
    assert [binding.rpc.name for binding in rules.load(compiled.files, compiled.pool, compiled.packages).bindings] == ["Go"]


def test_a_delete_with_a_body_needs_permission(compile_proto: Callable[[str, str], Any]) -> None:
    text = 'service S { rpc Go(In) returns (Out) { option (google.api.http) = {delete: "/a", body: "*"}; } }'
    compiled = compile_proto(HEAD + text, "bad.v1")
    assert len(rules.load(compiled.files, compiled.pool, compiled.packages, allow_delete_body=True).bindings) == 1


AMBIGUOUS = [
    ("/a/{id}", "/a/{id}:peek", 1),
    ("/a/{id=**}", "/a/{id}:peek", 1),
    ("/{id=**}", "/a/b:peek", 1),
    ("/a/{id}", "/{id=**}:peek", 1),
    ("/a/{id}/b", "/a/{id}:peek", 0),
    ("/b/{id}", "/a/{id}:peek", 0),
    ("/a/b", "/a/{id}:peek", 0),
]


@pytest.mark.parametrize(("plain", "custom", "warnings"), AMBIGUOUS)
def test_an_id_that_looks_like_a_verb_is_warned_of(
    plain: str, custom: str, warnings: int, compile_proto: Callable[[str, str], Any]
) -> None:
    text = f"""service S {{
      rpc Go(In) returns (Out) {{ option (google.api.http) = {{get: "{custom}"}}; }}
      rpc Get(In) returns (Out) {{ option (google.api.http) = {{get: "{plain}"}}; }}
    }}"""
    compiled = compile_proto(HEAD + text, "bad.v1")
    found = rules.load(compiled.files, compiled.pool, compiled.packages).warnings
    assert len(found) == warnings
    assert all('":peek" reaches bad.v1.S.Go' in warning and "bad.v1.S.Get" in warning for warning in found)


def test_every_public_rpc_is_reachable_and_nothing_else() -> None:
    installed = contract.installed()
    loaded = rules.load(installed.files, installed.pool)
    reached = {binding.rpc.full_name for binding in loaded.bindings}
    public = {
        f"{file.package}.{service.name}.{method.name}"
        for file in installed.files.file
        if file.package == "gipos.v1"
        for service in file.service
        if service.name != "OAuthService"  # it speaks forms; the gateway has routes of its own for it
        for method in service.method
    }
    inner = {"RedeemDashboardTicket", "WatchTopics"}  # what the gateway itself asks for, to serve dashboards by its WebSocket
    assert reached == {name for name in public if name.rpartition(".")[2] not in inner}
    assert loaded.warnings == ()
