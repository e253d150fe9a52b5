//! Runs the examples of docs/distributed.md verbatim.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use tenure_tests::servers::output;
use tenure_tests::servers::postgres::{Postgres, there};
use tenure_tests::{Actor, folder, has, needs};

/// Returns the code block of that language that contains `text`.
fn block(language: &str, text: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/distributed.md");
    let page = std::fs::read_to_string(page).unwrap();
    let fence = format!("```{language}\n");
    let mut blocks = page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.find(|block| block.contains(text)).unwrap_or_else(|| panic!("no {language} with {text}")).to_owned()
}

#[test]
fn the_sql_example_refuses_an_older_fence() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    postgres.ask("CREATE TABLE account (id text PRIMARY KEY, balance bigint, fence bigint NOT NULL DEFAULT 0)");
    postgres.ask("INSERT INTO account VALUES ('main', 0)");
    let target = postgres.target("account/main", 15);
    let mut holder = Actor::start();
    holder.must(&format!("open l {target}"));
    let mut fence = || {
        let fence = holder.must("acquire l g never")["fence"].as_u64().unwrap();
        holder.must("release g");
        fence
    };
    let (older, newer) = (fence(), fence());
    let script = folder();
    let file = script.path().join("update.sql");
    std::fs::write(&file, block("sql", "UPDATE account")).unwrap();
    let write = |fence: u64, balance: u64| {
        let mut psql = postgres.psql();
        psql.args(["-v", &format!("fence={fence}"), "-v", &format!("balance={balance}"), "-v", "QUIET=off"]);
        output(psql.arg("-f").arg(&file)).trim().to_owned()
    };
    assert_eq!(write(older, 1), "UPDATE 1");
    assert_eq!(write(newer, 2), "UPDATE 1");
    assert_eq!(write(older, 3), "UPDATE 0");
    assert_eq!(write(newer, 4), "UPDATE 1");
    assert_eq!(postgres.ask("SELECT balance FROM account"), "4");
}

#[test]
fn the_documented_tables_are_those_that_tenure_creates() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    postgres.ask("CREATE ROLE app LOGIN");
    let mut app = Actor::start();
    app.must(&format!("open l postgres://app@{}/postgres?lock=a", postgres.address()));
    let refused = app.must_fail("acquire l g never", "permission-denied");
    let shown = block("sql", "CREATE SCHEMA");
    assert!(refused["error"].as_str().unwrap().contains(shown.trim()), "{refused}");
}

#[test]
fn the_documented_sql_deletes_what_is_not_needed_any_more() {
    if !there() {
        return;
    }
    let postgres = Postgres::start();
    let mut holders: Vec<Actor> = Vec::new();
    for name in ["held", "crashed", "released", "fresh"] {
        let mut holder = Actor::start();
        holder.must(&format!("open l {}", postgres.target(name, 60)));
        holder.must("acquire l g never");
        match name {
            "held" => holders.push(holder),
            "crashed" => holder.kill(),
            _ => {
                holder.must("release g");
            }
        }
    }
    postgres.ask("UPDATE tenure.locks SET changed_at = now() - interval '31 days' WHERE name <> 'fresh'");
    postgres.ask(&block("sql", "DELETE FROM"));
    assert_eq!(postgres.ask("SELECT name FROM tenure.locks ORDER BY name"), "crashed\nfresh\nheld");
    holders[0].must("release g");
}

/// Runs an object store with one object and conditional writes: `GET` and `PUT` with `If-Match`.
fn store(listener: TcpListener, object: Arc<Mutex<Vec<u8>>>) {
    for stream in listener.incoming() {
        serve(stream.unwrap(), &object);
    }
}

fn serve(mut stream: TcpStream, object: &Mutex<Vec<u8>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.to_owned()),
            None => break,
        };
    }
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let mut object = object.lock().unwrap();
    let tag = |bytes: &[u8]| format!("\"{}\"", tenure_tests::hex(bytes));
    let (status, answer) = if first.starts_with("PUT") {
        if headers.get("if-match") == Some(&tag(&object)) {
            *object = body;
            ("200 OK", Vec::new())
        } else {
            ("412 Precondition Failed", Vec::new())
        }
    } else {
        ("200 OK", object.clone())
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nETag: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        tag(&object),
        answer.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&answer)).unwrap();
}

#[test]
fn the_object_store_example_refuses_an_older_fence() {
    if !needs("curl", has("curl")) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/main", listener.local_addr().unwrap());
    let object = Arc::new(Mutex::new(b"0\n".to_vec()));
    let there = Arc::clone(&object);
    std::thread::spawn(move || store(listener, there));
    let folder = folder();
    let script = block("sh", "If-Match");
    // Runs `before`, a change by another holder, just before the write.
    let write = |fence: u64, text: &str, before: &str| {
        std::fs::write(folder.path().join("new"), text).unwrap();
        let script = script.replace("curl -fsS -X PUT", &format!("{before}curl -fsS -X PUT"));
        let mut command = Command::new("sh");
        command.args(["-c", &script]).env("url", &url).env("TENURE_FENCE", fence.to_string());
        command.current_dir(folder.path()).stderr(std::process::Stdio::null()).status().unwrap().code()
    };
    let now = || String::from_utf8(object.lock().unwrap().clone()).unwrap();
    assert_eq!((write(5, "five", ""), now()), (Some(0), "5\nfive".to_owned()));
    assert_eq!((write(7, "seven", ""), now()), (Some(0), "7\nseven".to_owned()));
    assert_eq!((write(6, "six", ""), now()), (Some(1), "7\nseven".to_owned()));
    assert_eq!((write(7, "again", ""), now()), (Some(0), "7\nagain".to_owned()));
    // A newer holder writes between this holder's read and write.
    let meanwhile = "printf '9\\nnine' >newer; \
                     curl -fsS -X PUT -H \"If-Match: $etag\" --data-binary @newer \"$url\"; ";
    assert_eq!((write(8, "eight", meanwhile), now()), (Some(22), "9\nnine".to_owned()));
}
