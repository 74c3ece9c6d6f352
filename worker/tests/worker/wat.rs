//! Components of the `rusm:http` world in text form, one fault each: no toolchain needed.

use std::path::PathBuf;

use crate::harness::{cache, compile};

/// A handlers component whose `handle` has this body, after `(param $request i32) (result i32)`. Its one action is `go`.
pub fn handlers(handle: &str) -> String {
    handlers_with("", handle, "(i32.const 64)")
}

/// The same, with more definitions in the core module and with this body for `actions`.
pub fn handlers_with(definitions: &str, handle: &str, actions: &str) -> String {
    format!(
        r#"(component
  (core module $m
    (memory (export "memory") 1 65536)
    (global $next (mut i32) (i32.const 4096))
    ;; the list of actions: one string, "go"
    (data (i32.const 64) "\48\00\00\00\01\00\00\00\50\00\00\00\02\00\00\00go")
    ;; a response: 200, no headers, the body "hello"
    (data (i32.const 128) "\c8\00\00\00\00\00\00\00\00\00\00\00\00\01\00\00\05\00\00\00")
    (data (i32.const 256) "hello")
    ;; a response with the status 99
    (data (i32.const 192) "\63\00\00\00\00\00\00\00\00\00\00\00\00\01\00\00\05\00\00\00")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (block $fits
        (br_if $fits (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
        (drop (memory.grow (i32.add (i32.div_u (local.get 3) (i32.const 65536)) (i32.const 1)))))
      (local.get $at))
    {definitions}
    (func (export "actions") (result i32) {actions})
    (func $handle (export "handle") (param $request i32) (result i32) {handle}))
  (core instance $i (instantiate $m))
  (type $header (tuple string (list u8)))
  (type $request-def (record (field "id" string) (field "method" string) (field "scheme" string)
    (field "authority" string) (field "path" string) (field "query" (option string)) (field "headers" (list $header))
    (field "body" (list u8)) (field "peer" (option string))))
  (type $response-def (record (field "status" u16) (field "headers" (list $header)) (field "body" (list u8))))
  (export $request "request" (type $request-def))
  (export $response "response" (type $response-def))
  (func $actions (result (list string))
    (canon lift (core func $i "actions") (memory (core memory $i "memory"))))
  (func $handle (param "action" string) (param "params" (list (tuple string string))) (param "request" $request)
    (result $response)
    (canon lift (core func $i "handle") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (instance $handler (export "actions" (func $actions)) (export "handle" (func $handle)))
  (export "rusm:http/handler@0.1.0" (instance $handler)))"#
    )
}

/// Writes a component in text form and compiles it. Returns the artifact.
pub fn artifact(name: &str, text: &str) -> String {
    compile(&write(name, text))
}

/// Writes a component in text form in binary.
pub fn write(name: &str, text: &str) -> PathBuf {
    let directory = cache().join("wat");
    std::fs::create_dir_all(&directory).expect("a directory for test components");
    let path = directory.join(format!("{name}.wasm"));
    std::fs::write(&path, wat::parse_str(text).expect("the text is valid")).expect("the component can be written");
    path
}
