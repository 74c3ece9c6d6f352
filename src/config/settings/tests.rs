use std::path::Path;

use super::*;

fn read(text: &str) -> (Server, Report) {
    let mut server = Server::new(2, PathBuf::from("cache"));
    let mut report = Report::default();
    let table = DeTable::parse(text).expect("TOML");
    let around = Surroundings {
        directory: Path::new("dir"),
        cpus: 2,
        variable: &|_| None,
        is_file: &|_| false,
        is_directory: &|_| false,
        identity: &|user, group| match (user, group) {
            (Some("nobody"), _) => Err(IdentityError::NoUser),
            (_, Some("nobody")) => Err(IdentityError::NoGroup),
            (user, group) => {
                Ok(Identity { uid: user.map_or(0, |_| 33), gid: group.map_or(33, |_| 44), groups: vec![44] })
            }
        },
    };
    server.read(table.get_ref(), &around, &mut report);
    (server, report)
}

#[test]
fn the_readme_has_the_settings_as_they_are() {
    let readme = include_str!("../../../README.md");
    assert!(readme.contains(&markdown()), "README.md lacks this table:\n{}", markdown());
}

#[test]
fn every_setting_is_accepted_at_its_bounds_and_refused_one_past() {
    for setting in SETTINGS {
        let (least, most) = match setting.kind {
            Count(least, most, _) | CountPerCpu(least, most, _) | Mebibytes(least, most, _) => (least, most),
            Milliseconds(least, most, _) | MillisecondsOrNone(least, most, _) => (least, most),
            Directory(..) | Word(..) | Socket(..) | Address(..) | OptionalPath(..) | Account(..) | FileMode(..) => {
                continue;
            }
        };
        let errors = |value: i128| read(&format!("{} = {value}", setting.name)).1.list.len();
        assert_eq!(errors(least.into()), 0, "{}", setting.name);
        assert_eq!(errors(most.into()), 0, "{}", setting.name);
        assert_eq!(errors(i128::from(least) - 1), 1, "{}", setting.name);
        assert_eq!(errors(i128::from(most) + 1), 1, "{}", setting.name);
    }
}

#[test]
fn every_default_is_within_its_bounds() {
    let (mut server, _) = read("");
    for setting in SETTINGS {
        let (value, least, most) = match setting.kind {
            Count(least, most, field) | CountPerCpu(least, most, field) => (*field(&mut server) as u64, least, most),
            Milliseconds(least, most, field) => (field(&mut server).as_millis() as u64, least, most),
            // None is beside the bounds.
            MillisecondsOrNone(_, most, field) => (field(&mut server).as_millis() as u64, 0, most),
            Mebibytes(least, most, field) => (*field(&mut server) >> 20, least, most),
            Directory(..) | Word(..) | Socket(..) | Address(..) | OptionalPath(..) | Account(..) | FileMode(..) => {
                continue;
            }
        };
        assert!((least..=most).contains(&value), "{}", setting.name);
    }
}

#[test]
fn workers_grow_at_least_a_second_old_or_never() {
    assert_eq!(read("max-worker-age-ms = 0").0.worker_age_max, Duration::ZERO);
    assert_eq!(read("max-worker-age-ms = 1000").0.worker_age_max, Duration::from_secs(1));
    let (server, report) = read("max-worker-age-ms = 999");
    assert_eq!((server.worker_age_max, report.list.len()), (Duration::ZERO, 1));
    assert!(format!("{report:?}").contains("must be from 1000 to 31536000000 ms, or 0 for none"), "{report:?}");
}

#[test]
fn settings_land_in_their_fields() {
    let (server, report) =
        read("workers = 8\nrequest-timeout-ms = 1_500\nmax-body-mb = 0x10\ncache-dir = 'x'\nmax-headers = 7");
    assert!(report.list.is_empty(), "{report:?}");
    assert_eq!(server.workers, 8);
    assert_eq!(server.request_timeout, Duration::from_millis(1500));
    assert_eq!(server.body_bytes_max, 16 << 20);
    assert_eq!(server.cache_dir, Path::new("dir/x"));
    assert_eq!(server.headers_max, 7);
}

#[test]
fn words_are_taken_from_their_list_and_others_refused() {
    let (server, report) = read("on-trap = 'exit'\nsandbox = 'strict'");
    assert!(report.list.is_empty(), "{report:?}");
    assert_eq!((server.on_trap, server.sandbox), (OnTrap::Exit, SandboxLevel::Strict));
    let (server, report) = read("on-trap = 'explode'");
    assert_eq!((server.on_trap, report.list.len()), (OnTrap::Reset, 1));
}

#[test]
fn the_control_socket_is_somewhere_by_default_elsewhere_or_off() {
    assert_eq!(read("").0.control, Control::Default);
    assert_eq!(read("control = ''").0.control, Control::Off);
    assert_eq!(read("control = 'run/a.sock'").0.control, Control::At("dir/run/a.sock".into()));
    assert_eq!(read("control = '/run/a.sock'").0.control, Control::At("/run/a.sock".into()));
    assert_eq!(read("control = true").1.list.len(), 1);
}

#[test]
fn the_admin_address_is_checked_as_those_of_listeners_are() {
    assert_eq!(read("").0.admin, None);
    assert_eq!(read("admin = '[::1]:9090'").0.admin, "[::1]:9090".parse().ok());
    assert_eq!(read("admin = '9090'").1.list.len(), 1);
}

#[test]
fn a_user_and_a_group_are_looked_up_together_and_an_unknown_one_is_an_error_at_its_place() {
    let (server, report) = read("user = 'www'\ngroup = 'web'");
    assert!(report.list.is_empty(), "{report:?}");
    assert_eq!(server.identity, Some(Identity { uid: 33, gid: 44, groups: vec![44] }));
    assert_eq!(read("workers = 1").0.identity, None);
    for (text, at) in [("user = 'nobody'", 7), ("user = 'www'\ngroup = 'nobody'", 21)] {
        let (server, report) = read(text);
        assert_eq!((server.identity, report.list.len()), (None, 1), "{text}");
        assert_eq!(report.list[0].span.map(|span| span.start), Some(at), "{text}");
    }
}

#[test]
fn a_umask_is_octal_and_in_quotes() {
    for (text, expected) in [("0", 0), ("027", 0o27), ("777", 0o777), ("0077", 0o77)] {
        assert_eq!(read(&format!("umask = '{text}'")).0.umask, Some(expected), "{text}");
    }
    for wrong in ["27", "''", "'8'", "'1000'", "'+1'", "'-1'", "'rwx'"] {
        let (server, report) = read(&format!("umask = {wrong}"));
        assert_eq!((server.umask, report.list.len()), (None, 1), "{wrong}");
    }
}

#[test]
fn paths_that_are_set_start_at_the_manifest() {
    let (server, report) = read("pidfile = 'run/pid'\nchdir = '/srv'");
    assert!(report.list.is_empty(), "{report:?}");
    assert_eq!(server.pidfile.as_deref(), Some(Path::new("dir/run/pid")));
    assert_eq!(server.chdir.as_deref(), Some(Path::new("/srv")));
}
