//! Tables of manifests: what they mean, and what is told about them, word for word.

use std::time::Duration;

use super::*;

/// Reads a manifest in a directory `app` that has `wasm/api.wasm`, `wasm/web.wasm`, `other/x.wasm` and a directory `data`.
fn read_with(manifest: &[u8], overrides: &Overrides) -> Result<Loaded, Diagnostics> {
    let files = ["app/wasm/api.wasm", "app/wasm/web.wasm", "app/other/x.wasm", "app/wasm/script.js"];
    let around = Surroundings {
        directory: Path::new("app"),
        cpus: 4,
        variable: &|name| match name {
            "HOME" => Some("/home/me".to_owned()),
            "MODE" => Some("live".to_owned()),
            _ => None,
        },
        is_file: &|path| files.iter().any(|file| path == Path::new(file)),
        is_directory: &|path| path == Path::new("app/data") || path == Path::new("/tmp"),
        identity: &|_, _| Err(IdentityError::NoUser),
    };
    parse(Path::new("rusm.toml"), manifest, overrides, &around)
}

fn read(manifest: &str) -> Result<Loaded, Diagnostics> {
    read_with(manifest.as_bytes(), &Overrides::default())
}

fn component_of(target: &RouteTarget) -> ComponentRef {
    match target {
        RouteTarget::Component { component, .. } => component.clone(),
        RouteTarget::Directory(directory) => panic!("a directory: {directory:?}"),
    }
}

fn good(manifest: &str) -> Config {
    match read(manifest) {
        Ok(loaded) if loaded.diagnostics.is_empty() => loaded.config,
        Ok(loaded) => panic!("{}", loaded.diagnostics.render(Purpose::Start, false)),
        Err(diagnostics) => panic!("{}", diagnostics.render(Purpose::Start, false)),
    }
}

/// All that is told about a manifest.
fn told(manifest: &str) -> String {
    match read(manifest) {
        Ok(loaded) => loaded.diagnostics.render(Purpose::Start, false),
        Err(diagnostics) => diagnostics.render(Purpose::Start, false),
    }
}

/// The first line of everything that is told.
pub(super) fn titles(manifest: &str) -> Vec<String> {
    let is_title = |line: &&str| line.starts_with("error: ") || line.starts_with("warning: ");
    told(manifest).lines().filter(is_title).map(str::to_owned).collect()
}

/// A manifest with one good listener, and something more.
pub(super) fn with(more: &str) -> String {
    format!("[[serve]]\nlisten = \"127.0.0.1:0\"\ncomponent = \"api\"\n{more}")
}

#[test]
fn a_whole_manifest_means_what_it_says() {
    let config = good(
        r#"
        [[serve]]
        protocol = "http"
        listen = "127.0.0.1:8080"
        max_connections = 7

        [serve.routes]
        "GET /users/:id" = "api#show"
        "post  /users" = "api#create"
        "/*" = "web"

        [serve.headers]
        "X-B" = "2"
        "X-A" = "1"

        [[serve]]
        listen = "localhost:0"
        component = "x"

        [components.api]
        capability = "fetcher"

        [components.x]
        source = "other/x.wasm"

        [capabilities.base]
        inherits = "network-client"
        env = { A = "1", B = "2" }
        preopen = [{ host = "data", guest = "/data" }]

        [capabilities.fetcher]
        inherits = "base"
        max-memory-mb = 256
        allow-network = ["API.example.org", "10.0.0.7:8080"]
        env = ["MODE", "B=3"]
        preopen = ["data::/data:rw", "/tmp"]

        [log]
        level = "debug"

        [server]
        workers = 8
        cache-dir = "cache"
        "#,
    );
    let registered = |index| ComponentRef::Registered(ComponentIndex(index));
    let [first, second] = &config.serves[..] else { panic!("two listeners") };
    let Target::Routes(routes) = &first.target else { panic!("routes") };
    let list: Vec<_> = routes
        .list
        .iter()
        .map(|r| (r.method.as_deref(), r.pattern.as_str(), component_of(&r.target), r.target.action()))
        .collect();
    assert_eq!(
        list,
        [
            (Some("GET"), "/users/:id", registered(0), Some("show")),
            (Some("POST"), "/users", registered(0), Some("create")),
            (None, "/*", registered(1), None),
        ]
    );
    assert_eq!(first.headers, [("X-B".to_owned(), "2".to_owned()), ("X-A".to_owned(), "1".to_owned())]);
    assert_eq!((first.connections_max, second.connections_max), (Some(7), None));
    assert!(matches!(&second.target, Target::Component(component) if *component == registered(2)));
    assert_eq!(second.listen.to_string(), "localhost:0");

    let sources: Vec<_> = config.components.iter().map(|c| (c.name.as_str(), c.source.as_path())).collect();
    let expected = [("api", "app/wasm/api.wasm"), ("web", "app/wasm/web.wasm"), ("x", "app/other/x.wasm")];
    assert_eq!(sources, expected.map(|(name, path)| (name, Path::new(path))));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let preopen = |host: &str, guest: &str, writable| Preopen { host: host.into(), guest: guest.to_owned(), writable };
    let expected = Grants {
        memory_bytes_max: 256 << 20,
        network: Network::Hosts(vec!["api.example.org".to_owned(), "10.0.0.7:8080".to_owned()]),
        env: vec![pair("A", "1"), pair("MODE", "live"), pair("B", "3")],
        preopens: vec![preopen("app/data", "/data", true), preopen("/tmp", "/tmp", false)],
    };
    assert_eq!(config.components[0].grants, expected);
    assert_eq!(config.components[1].grants, Grants::sandboxed());
    assert_eq!(config.log.level, LevelFilter::Debug);
    assert_eq!((config.server.workers, config.server.cache_dir.as_path()), (8, Path::new("app/cache")));
}

#[test]
fn what_is_not_set_has_its_default() {
    let config = good(&with(""));
    assert_eq!(config.server, Server::new(4, PathBuf::from("/home/me/.cache/rusmd")));
    assert_eq!(config.server.request_timeout, Duration::from_secs(30));
    assert_eq!(config.log.level, LevelFilter::Info);
    assert_eq!(config.components[0].grants.memory_bytes_max, MEMORY_BYTES_DEFAULT);
}

#[test]
fn built_in_profiles_need_no_declaration() {
    let grants = |capability: &str| {
        good(&with(&format!("[components.api]\ncapability = \"{capability}\""))).components[0].grants.clone()
    };
    assert_eq!(grants("sandboxed"), Grants::sandboxed());
    assert_eq!(grants("network-client"), Grants { network: Network::Any, ..Grants::sandboxed() });
    assert_eq!(grants("trusted").memory_bytes_max, 1 << 30);
}

#[test]
fn flags_go_before_the_manifest() {
    let flag: Listen = "127.0.0.1:1".parse().expect("an address");
    let other: Listen = "127.0.0.1:2".parse().expect("an address");
    let overrides = Overrides {
        workers: Some(3),
        listen: vec![flag.clone(), other.clone()],
        worker_bin: Some("w".into()),
        log_level: Some(LevelFilter::Warn),
        pidfile: Some("p".into()),
        ..Overrides::default()
    };
    let manifest = with("[server]\nworkers = 2\npidfile = 'q'\n[log]\nlevel = \"trace\"\n");
    let config = read_with(manifest.as_bytes(), &overrides).expect("a good manifest").config;
    assert_eq!(config.serves.iter().map(|serve| serve.listen.clone()).collect::<Vec<_>>(), [flag, other]);
    assert_eq!((config.server.workers, config.log.level), (3, LevelFilter::Warn));
    assert_eq!(config.worker_bin, Some(PathBuf::from("w")));
    assert_eq!(config.server.pidfile, Some(PathBuf::from("p")));

    let two = with("[[serve]]\nlisten = \"127.0.0.1:5\"\ncomponent = \"web\"\n");
    let errors = read_with(two.as_bytes(), &overrides).expect_err("which of the two?");
    let expected = "\
error: --listen cannot tell which of several [[serve]] it is for
hint: change `listen` in the manifest instead
";
    assert_eq!(errors.render(Purpose::Start, false), expected);
}

#[test]
fn every_mistake_is_shown_at_once_with_its_line_and_caret() {
    let manifest = r#"[[serve]]
protocl = "http"
listen = "127.0.0.1:8080"

[serve.routes]
"GET /users/:id" = "api#show"
"GET /users/:name" = "api#other"
"GET /{id}" = "api#show"

[server]
request-timeout-ms = 0

[capabilities.small]
max-memory = 64
"#;
    let expected = "\
error: unknown key `protocl`
 --> rusm.toml:2:1
  |
2 | protocl = \"http\"
  | ^^^^^^^ did you mean `protocol`?

error: nothing tells this route and an earlier one apart
 --> rusm.toml:7:1
  |
6 | \"GET /users/:id\" = \"api#show\"
  | ---------------- the earlier one
7 | \"GET /users/:name\" = \"api#other\"
  | ^^^^^^^^^^^^^^^^^^ this one

error: `{id}` is not how a parameter is written
 --> rusm.toml:8:1
  |
8 | \"GET /{id}\" = \"api#show\"
  | ^^^^^^^^^^^
  |
  = hint: write `:id`

error: `0` is out of range
  --> rusm.toml:11:22
   |
11 | request-timeout-ms = 0
   |                      ^ must be from 1 to 86400000 ms

error: unknown key `max-memory`
  --> rusm.toml:14:1
   |
14 | max-memory = 64
   | ^^^^^^^^^^ did you mean `max-memory-mb`?
";
    assert_eq!(told(manifest), expected);
}

#[test]
fn syntax_errors_are_told_in_the_same_form_beside_what_else_is_certain() {
    let manifest =
        "[[serve]]\r\nlisten = 127.0.0.1\r\nprotocl = \"http\"\r\n[server]\r\nworkers = 1\r\nworkers = 2\r\n";
    let expected = "\
error: invalid TOML: invalid float, expected nothing
 --> rusm.toml:2:15
  |
2 | listen = 127.0.0.1
  |               ^^^^

error: unknown key `protocl`
 --> rusm.toml:3:1
  |
3 | protocl = \"http\"
  | ^^^^^^^ did you mean `protocol`?

error: invalid TOML: duplicate key
 --> rusm.toml:6:1
  |
6 | workers = 2
  | ^^^^^^^
";
    assert_eq!(told(manifest), expected);
}

#[test]
fn a_component_without_a_file_is_not_registered_and_told_once() {
    let manifest = r#"[[serve]]
listen = "127.0.0.1:0"
[serve.routes]
"GET /a" = "apu#show"
"GET /b" = "apu#index"
"GET /c" = "api#show"
[components.api]
"#;
    let loaded = read(manifest).expect("it starts");
    let expected = "\
warning: the component `apu` is not registered: there is no file `app/wasm/apu.wasm`
 --> rusm.toml:4:12
  |
4 | \"GET /a\" = \"apu#show\"
  |            ^^^^^^^^^^ requests to it get 500
  |
  = hint: did you mean `api`?
";
    assert_eq!(loaded.diagnostics.render(Purpose::Start, false), expected);
    assert!(loaded.diagnostics.has_errors(Purpose::Check));
    let Target::Routes(routes) = &loaded.config.serves[0].target else { panic!("routes") };
    assert_eq!(component_of(&routes.list[1].target), ComponentRef::Unregistered("apu".to_owned()));
    assert_eq!(component_of(&routes.list[2].target), ComponentRef::Registered(ComponentIndex(0)));
    assert_eq!(loaded.config.components.len(), 1);
}

#[test]
fn mistakes_of_every_kind_are_told() {
    let table: &[(&str, &[&str])] = &[
        ("", &["error: the manifest has no [[serve]]"]),
        ("[serve]\nlisten = \"127.0.0.1:0\"", &["error: expected one or more listeners"]),
        ("serve = [1]", &["error: expected a table, found an integer"]),
        ("[[serve]]", &["error: the listener has no `listen`", "error: the listener has nothing to serve"]),
        ("[[serve]]\nlisten = \"127.0.0.1:0\"\n[serve.routes]", &["error: the listener has no routes"]),
        ("[[serve]]\nlisten = \"a:b\"\ncomponent = \"api\"", &["error: the port is not a number from 0 to 65535"]),
        ("[[serve]]\nlisten = 80\ncomponent = \"api\"", &["error: expected a string, found an integer"]),
        ("[[serve]]\nlisten = \"/x\"\ncomponent = \"api\"", &["error: a path alone is no address"]),
    ];
    for (manifest, expected) in table {
        assert_eq!(titles(manifest), *expected, "{manifest}");
    }
    let table: &[(&str, &[&str])] = &[
        ("authentication = true", &["error: `authentication` is not supported"]),
        ("authentication = false\nsubprotocols = []", &[]),
        ("protocol = \"ws\"", &["error: the protocol `ws` is not supported yet"]),
        ("protocol = \"htp\"", &["error: `htp` is not one of http, https"]),
        ("max_connections = 0", &["error: `0` is out of range"]),
        ("max_connections = 99999999999999999999", &["error: `99999999999999999999` is out of range"]),
        ("max_connections = 1.5", &["error: expected a whole number, found a float"]),
        ("routes = { \"/\" = \"api\" }", &["error: the listener has both a component and routes"]),
        ("headers = { \"a b\" = \"1\" }", &["error: `a b` cannot be the name of a header"]),
        ("headers = { Content-Length = \"1\" }", &["error: the header `Content-Length` is the server's own"]),
        (
            "headers = { a = \"x\\r\\ny\" }",
            &["error: a header's value has no control characters and no blanks around it"],
        ),
        ("headers = { a = \"x\\u0000\" }", &["error: the value has a NUL in it"]),
        ("[routes]\n\"/\" = \"api\"", &["error: routes belong to a listener"]),
        ("[node]\nlisten = \"127.0.0.1:4000\"", &["warning: `[node]` is ignored"]),
        ("[serv]", &["error: unknown key `serv`"]),
        ("[log]\nlevel = \"loud\"", &["error: `loud` is not one of off, error, warn, info, debug, trace"]),
        ("[components]\n\"../x\" = {}", &["error: `../x` cannot be the name of a component"]),
        ("[components.web]", &["warning: no listener serves the component `web`"]),
        (
            "[components.api]\nsource = \"https://example.org/a.wasm\"",
            &["error: `https://example.org/a.wasm` is not a file"],
        ),
        ("[components.api]\nresident = true", &["error: `resident` is not supported"]),
        ("[components.api]\nresident = false", &[]),
        ("[components.api]\ncapability = \"sandboxd\"", &["error: there is no capability `sandboxd`"]),
        (
            "[components.api]\nsource = \"gone.wasm\"",
            &["warning: the component `api` is not registered: there is no file `app/gone.wasm`"],
        ),
        ("[capabilities.a]\ninherits = \"b\"", &["error: there is no capability `b`"]),
        ("[capabilities.a]\ninherits = \"a\"", &["error: a capability inherits from itself"]),
        (
            "[capabilities.a]\ninherits = \"b\"\n[capabilities.b]\ninherits = \"c\"\n[capabilities.c]\ninherits = \"b\"",
            &["error: a capability inherits from itself"],
        ),
        ("[capabilities.a]\nmax-memory-mb = 4096", &[]),
        ("[capabilities.a]\nmax-memory-mb = 4097", &["error: `4097` is out of range"]),
        ("[capabilities.a]\nmax-memory-mb = -1", &["error: `-1` is out of range"]),
        ("[capabilities.a]\nallow-network = \"x\"", &["error: expected true, false or an array of hosts"]),
        (
            "[capabilities.a]\nallow-network = [\"http://x\", \"x:0\", \"\", \"[::1]:80\", \"::1\"]",
            &["error: `http://x` is not a host", "error: `x:0` is not a host", "error: `` is not a host"],
        ),
        ("[capabilities.a]\nallow-spawn = true\nallow-storage = false", &["error: `allow-spawn` is not supported"]),
        ("[capabilities.a]\nallow-stdio = true", &[]),
        (
            "[capabilities.a]\nenv = [\"NOWHERE\"]",
            &["warning: the variable `NOWHERE` is not set, so the component does not get it"],
        ),
        (
            "[capabilities.a]\nenv = [\"=x\", \"MODE\", \"MODE=1\", 1]",
            &[
                "error: `` cannot be the name of a variable",
                "error: `MODE` is listed twice",
                "error: expected a string, found an integer",
            ],
        ),
        ("[capabilities.a]\nenv = 1", &["error: expected a table of variables or an array of their names"]),
        (
            "[capabilities.a]\npreopen = [\"gone::/x\", \"data::/x\", \"/tmp::/x\", \"::\", 1, { host = \"data\" }]",
            &[
                "error: `app/gone` is not a directory",
                "error: `/x` is mounted twice",
                "error: a directory needs a path on both sides",
                "error: expected a directory",
                "error: a directory needs both `host` and `guest`",
            ],
        ),
    ];
    for (more, expected) in table {
        assert_eq!(titles(&with(more)), *expected, "{more}");
    }
}

#[test]
fn mistakes_in_routes_are_told() {
    let table: &[(&str, &[&str])] = &[
        ("\"users\" = \"api#show\"", &["error: `users` is not a route"]),
        ("\"GET\" = \"api#show\"", &["error: `GET` is not a route"]),
        ("\"G/T /\" = \"api#show\"", &["error: `G/T` is not a method"]),
        ("\"GET users\" = \"api#show\"", &["error: the path of a route begins with a slash"]),
        ("\"GET /a b\" = \"api#show\"", &["error: the path of a route has no white space or control characters"]),
        ("\"GET /a\" = \"api#\"", &["error: `` is not the name of an action"]),
        ("\"GET /a\" = \"#show\"", &["error: `` cannot be the name of a component"]),
        ("\"GET /a/*\" = \"dir:gone\"", &["error: `app/gone` is not a directory"]),
        ("\"GET /a/*\" = \"dir:\"", &["error: the directory has no name"]),
        ("\"GET /a\" = \"dir:data\"", &["error: the route of a directory ends in `*`"]),
        ("\"/a/*\" = \"dir:data\"", &["error: a directory is served to GET alone"]),
        ("\"PUT /a/*\" = \"dir:data\"", &["error: a directory is served to GET alone"]),
        ("\"GET /a\" = 1", &["error: expected a string, found an integer"]),
        ("\"GET /*/a\" = \"api x\"", &["error: `api x` cannot be the name of a component"]),
        ("\"GET /*/a\" = \"api#a\"", &["error: `*` is not the last segment"]),
        (
            "\"GET /a\" = \"script\"",
            &["warning: the component `script` is not registered: there is no file `app/wasm/script.wasm`"],
        ),
        (
            "\"GET /a\" = \"api#a\"\n\"get  //a/\" = \"api#b\"",
            &["error: nothing tells this route and an earlier one apart"],
        ),
        ("\"GET /a\" = \"api#a\"\n\"GET /a\" = \"api#b\"", &["error: invalid TOML: duplicate key"]),
    ];
    for (routes, expected) in table {
        let manifest = format!("[[serve]]\nlisten = \"127.0.0.1:0\"\n[serve.routes]\n{routes}\n");
        assert_eq!(titles(&manifest), *expected, "{routes}");
    }
    assert!(
        told("[[serve]]\nlisten = \"127.0.0.1:0\"\n[serve.routes]\n\"/\" = \"script\"").contains("there is a .js file")
    );
}

#[test]
fn two_listeners_cannot_have_one_address_unless_the_kernel_chooses_it() {
    let two = |address: &str| format!("[[serve]]\nlisten = \"{address}\"\ncomponent = \"api\"\n").repeat(2);
    assert_eq!(titles(&two("127.0.0.1:0")), [""; 0]);
    assert_eq!(titles(&two("127.0.0.1:80")), ["error: two listeners have the same address"]);
}

#[test]
fn the_admin_listener_cannot_have_the_address_of_another() {
    let manifest = |admin: &str| {
        format!("[[serve]]\nlisten = \"127.0.0.1:80\"\ncomponent = \"api\"\n[server]\nadmin = \"{admin}\"")
    };
    assert_eq!(titles(&manifest("127.0.0.1:80")), ["error: `admin` in [server] has the address of this listener"]);
    assert_eq!(titles(&manifest("127.0.0.1:81")), [""; 0]);
    assert_eq!(titles(&with("[server]\nadmin = \"127.0.0.1:0\"")), [""; 0], "the kernel chooses two ports");
}

#[test]
fn the_control_socket_is_found_in_a_manifest_that_is_good_for_nothing_else() {
    let directory = std::env::temp_dir().join(format!("rusmd-config-control-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("the temporary directory is writable");
    let path = directory.join("rusm.toml");
    let control = |manifest: &str| {
        std::fs::write(&path, manifest).expect("the temporary directory is writable");
        load_control(&path)
    };
    assert_eq!(control("[server]\ncontrol = 'a.sock'").ok(), Some(Control::At(directory.join("a.sock"))));
    assert_eq!(control("[server]\ncontrol = ''").ok(), Some(Control::Off));
    assert_eq!(control("nonsense = 1").ok(), Some(Control::Default));
    assert_eq!(control("[server]\ncontrol = '/a.sock'\n[[serve]\n= 3").ok(), Some(Control::At("/a.sock".into())));
    assert!(control("[server]\n[[serve]\n= 3").is_err(), "who knows what it would have said");
    assert!(control("[server]\ncontrol = 7").is_err());
    std::fs::remove_dir_all(&directory).expect("the directory is ours");
    assert!(load_control(&path).is_err());
}

#[test]
fn tables_are_counted_up_to_their_limits() {
    let serves = |count: usize| "[[serve]]\nlisten = \"127.0.0.1:0\"\ncomponent = \"api\"\n".repeat(count);
    assert_eq!(titles(&serves(SERVES_MAX)), [""; 0]);
    assert_eq!(titles(&serves(SERVES_MAX + 1)), ["error: a manifest has at most 256 listeners"]);

    let capabilities = |count: usize| with(&(0..count).map(|n| format!("[capabilities.c{n}]\n")).collect::<String>());
    assert_eq!(titles(&capabilities(capability::CAPABILITIES_MAX)), [""; 0]);
    let errors = titles(&capabilities(capability::CAPABILITIES_MAX + 1));
    assert_eq!(errors, ["error: a manifest has at most 1024 capabilities"]);

    let chain = |links: usize| {
        let link = |n: usize| format!("[capabilities.c{n}]\ninherits = \"c{}\"\n", n + 1);
        with(&((0..links).map(link).collect::<String>() + &format!("[capabilities.c{links}]\n")))
    };
    assert_eq!(titles(&chain(capability::INHERITANCE_MAX)), [""; 0]);
    assert_eq!(
        titles(&chain(capability::INHERITANCE_MAX + 1)),
        ["error: `c0` inherits through more than 16 capabilities"]
    );
}

#[test]
fn components_are_counted_up_to_their_limit() {
    let around = |directory| Surroundings {
        directory,
        cpus: 1,
        variable: &|_| None,
        is_file: &|_| true,
        is_directory: &|_| true,
        identity: &|_, _| Err(IdentityError::NoUser),
    };
    let read = |count: usize| {
        let routes: String = (0..count).map(|n| format!("\"/{n}\" = \"c{n}\"\n")).collect();
        let manifest = format!("[[serve]]\nlisten = \"127.0.0.1:0\"\n[serve.routes]\n{routes}");
        parse(Path::new("rusm.toml"), manifest.as_bytes(), &Overrides::default(), &around(Path::new("")))
    };
    let most = rusmd_proto::limits::COMPONENTS_MAX;
    assert_eq!(read(most).expect("the limit is allowed").config.components.len(), most);
    let errors = read(most + 1).expect_err("one past is not");
    assert_eq!(
        errors.iter().map(|found| found.message.as_str()).collect::<Vec<_>>(),
        ["a manifest has at most 1024 components"]
    );
    assert_eq!(read(most + 9).expect_err("told once").iter().count(), 1);
}

#[test]
fn a_manifest_is_read_up_to_its_limit_and_an_unreadable_one_is_told() {
    let directory = std::env::temp_dir().join(format!("rusmd-config-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let path = directory.join("rusm.toml");
    let message = |named: bool, path: &Path| match read_source(path) {
        Ok(source) => format!("{} bytes", source.len()),
        Err(error) => unreadable(Path::new("rusm.toml"), &error, named).render(Purpose::Start, false),
    };
    std::fs::write(&path, vec![b'\n'; MANIFEST_BYTES_MAX]).expect("a file");
    assert_eq!(message(true, &path), "524288 bytes");
    std::fs::write(&path, vec![b'\n'; MANIFEST_BYTES_MAX + 1]).expect("a file");
    assert_eq!(message(true, &path), "error: cannot read the manifest rusm.toml: it has more than 524288 bytes\n");
    std::fs::remove_dir_all(&directory).expect("to remove it again");
    assert!(
        message(false, &path)
            .ends_with("hint: start rusmd where rusm.toml is, or name the manifest with --config FILE\n")
    );
    let overrides = Overrides { config: Some(path), ..Overrides::default() };
    assert!(load(&overrides).expect_err("it is gone").has_errors(Purpose::Start));
}

#[test]
fn a_manifest_that_is_not_utf8_is_told_where() {
    let errors = read_with(b"a = 1\nb = \"\xff\"\n", &Overrides::default()).expect_err("no text");
    let expected = "\
error: the manifest is not UTF-8
 --> rusm.toml:2:6
  |
2 | b = \"\u{fffd}\"
  |      ^ these bytes are no text
";
    assert_eq!(errors.render(Purpose::Start, false), expected);
}

#[test]
fn nesting_of_any_depth_is_an_error_and_not_a_crash() {
    for manifest in ["a = ".to_owned() + &"[".repeat(100_000), "a={b=".repeat(50_000), "a.".repeat(100_000) + "a = 1"] {
        assert!(read(&manifest).expect_err("too deep").has_errors(Purpose::Start));
    }
}

#[test]
fn arbitrary_bytes_never_panic() {
    let whole = with(
        "[serve.routes]\n\"GET /:a/*\" = \"api#x\"\n[serve.headers]\na = 'b'\n[components.api]\ncapability = \"a\"\n\
         [capabilities.a]\ninherits = \"b\"\nmax-memory-mb = 0x10\nenv = [\"A=1\"]\npreopen = [{ host = \"data\", guest = \"/d\" }]\n\
         [server]\nworkers = 1_0\n[log]\nlevel = '''info'''\n",
    );
    let pieces = [
        "[", "]", "[[", "]]", "=", ".", "\"", "'", "\n", "{", "}", ",", "#", "serve", "a", "1", "\u{0}", "é", "\\u",
        "-", "true",
    ];
    let mut seed: u64 = 0x2545_f491_4f6c_dd1d;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below.max(1) as u64) as usize
    };
    for _ in 0..3_000 {
        let mut manifest = whole.clone().into_bytes();
        for _ in 0..=random(6) {
            let at = random(manifest.len());
            match random(4) {
                0 => manifest.truncate(at),
                1 => drop(manifest.drain(at..(at + random(20)).min(manifest.len()))),
                2 => manifest.insert(at, random(256) as u8),
                _ => drop(manifest.splice(at..at, pieces[random(pieces.len())].bytes())),
            }
        }
        match read_with(&manifest, &Overrides::default()) {
            Ok(loaded) => drop(loaded.diagnostics.render(Purpose::Check, true)),
            Err(diagnostics) => assert!(diagnostics.render(Purpose::Start, true).contains("error")),
        }
    }
}
