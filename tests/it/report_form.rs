//! The form that reports a failure: what it takes, what it gives back, and that a log goes the way of all reports.

use crate::support::browser::Browser;
use crate::support::{Setup, TestApp, eventually};
use reqwest::header::{CONTENT_TYPE, LOCATION};
use serde_json::Value;

/// Sends a form as a browser does that is told to send files; parts are a name, perhaps with a file's, and a text.
async fn send(app: &TestApp, parts: &[(&str, &[u8])]) -> (u16, String, String) {
    let mut body = Vec::new();
    for (name, content) in parts {
        let (name, file) = name.split_once('@').map_or((*name, None), |(name, file)| (name, Some(file)));
        let file = file
            .map_or_else(String::new, |file| format!("; filename=\"{file}\"\r\ncontent-type: text/plain"));
        body.extend(
            format!("--edge\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n").bytes(),
        );
        body.extend(*content);
        body.extend(b"\r\n");
    }
    body.extend(b"--edge--\r\n");
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let request = client.post(format!("{}/reports/new", app.base));
    let request = request.header(CONTENT_TYPE, "multipart/form-data; boundary=edge").body(body);
    let response = request.send().await.unwrap();
    let location = response.headers().get(LOCATION).map(|to| to.to_str().unwrap().to_owned());
    (response.status().as_u16(), location.unwrap_or_default(), response.text().await.unwrap())
}

/// The report that a form led to, once it ended.
async fn ended(app: &TestApp, location: &str) -> Value {
    let url = format!("/api{location}");
    eventually("the report ends", async || {
        let report = app.get(&url).await.body;
        ["done", "failed"].contains(&report["status"].as_str()?).then_some(report)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_pasted_or_chosen_and_goes_the_way_of_all_reports() {
    let app = Setup::bare().await.start().await;
    let secret = ["hunter2", "hunter2"].concat();
    let log = format!("starting\r\nerror: the pump is broken password={secret}\r\n");
    let who: [(&str, &[u8]); 4] =
        [("namespace", b"ci"), ("pod_name", b"pump-pod"), ("pipeline", b"deliver"), ("task", b"build")];
    let (status, location, _) =
        send(&app, &[&who[..], &[("log", log.as_bytes()), ("log_file@", b"")]].concat()).await;
    assert_eq!(status, 303);
    let report = ended(&app, &location).await;
    assert_eq!(
        (&report["status"], &report["pipeline"], &report["task"]),
        (&"done".into(), &"deliver".into(), &"build".into()),
        "{report}"
    );
    let text = app.get(&format!("/api{location}/evidence/E1")).await.body;
    assert!(
        text.as_str().unwrap().contains("the pump is broken") && !text.to_string().contains(&secret),
        "{text}"
    );
    // The same log as a file is the same cause.
    let (status, file, _) = send(&app, &[&who[..], &[("log_file@a.log", log.as_bytes())]].concat()).await;
    assert_eq!(status, 303);
    assert_eq!(ended(&app, &file).await["incident_id"], report["incident_id"]);
    // Sent twice, it is one report; with other words under the same key it is none until it is sent again.
    let keyed = |pod: &'static [u8]| {
        [("key", b"the-same-key".as_slice()), ("namespace", b"ci"), ("pod_name", pod), ("log", b"error: x")]
    };
    let (_, first, _) = send(&app, &keyed(b"one")).await;
    assert_eq!(send(&app, &keyed(b"one")).await.1, first);
    let (status, _, page) = send(&app, &keyed(b"two")).await;
    assert!(
        status == 409 && page.contains("this form was sent before") && page.contains("value=\"two\""),
        "{page}"
    );
    assert!(!page.contains("the-same-key"), "sent again, it has a key of its own");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_beside_what_was_written() {
    let app = Setup::bare().await.set("REGREEN_BODY_LIMIT", "65536").start().await;
    let (status, _, page) = send(
        &app,
        &[
            ("namespace", b"Not OK"),
            ("pod_name", b""),
            ("run_url", b"javascript:alert(1)"),
            ("log", b"  <b>error: kept</b>\n"),
        ],
    )
    .await;
    assert_eq!(status, 422);
    for kept in ["value=\"Not OK\"", "javascript:alert(1)", "&lt;b&gt;error: kept&lt;&#x2f;b&gt;"] {
        assert!(page.contains(kept), "{kept}: {page}");
    }
    for wrong in [
        "namespace-wrong\">is not a Kubernetes name",
        "pod_name-wrong\">is required",
        "run_url-wrong\">has to be an http or https URL",
    ] {
        assert!(page.contains(wrong), "{wrong}: {page}");
    }
    let pod: [(&str, &[u8]); 2] = [("namespace", b"ci"), ("pod_name", b"p")];
    for (more, wrong) in [
        ([("log_file@a.gz", b"\x1f\x8b\x08".as_slice()), ("log", b"")], "is compressed"),
        ([("log_file@a.bin", b"a\0b".as_slice()), ("log", b"")], "is not a text file"),
        ([("log_file@a.log", b"error".as_slice()), ("log", b"error")], "send one of them"),
    ] {
        let (status, _, page) = send(&app, &[&pod[..], &more].concat()).await;
        assert!(
            status == 422 && page.contains(wrong) && page.contains("value=\"ci\""),
            "{wrong}: {status} {page}"
        );
    }
    // No larger than any report may be.
    let (status, _, page) = send(&app, &[&pod[..], &[("log_file@a.log", &[b'x'; 70_000])]].concat()).await;
    assert!(
        status == 413 && page.contains("server.body_limit") && page.contains("<h1>413"),
        "{status} {page}"
    );
    // What is no such form is refused in words.
    let plain =
        app.http.post(format!("{}/reports/new", app.base)).form(&[("namespace", "ci")]).send().await.unwrap();
    assert_eq!(plain.status(), 415);
    assert_eq!(
        app.get("/api/reports").await.body["reports"].as_array().unwrap().len(),
        0,
        "nothing was stored"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_scripts_a_failure_is_reported_and_a_wrong_field_mended() {
    let app = Setup::bare().await.start().await;
    let browser = Browser::start().await;
    let page = browser.page().await;
    page.without_scripts().await;
    page.open(&format!("{}/reports", app.base)).await;
    page.click("//main//a[normalize-space()='Report one']").await;
    page.fill("#namespace", "Not OK").await;
    page.fill("#pod_name", "pump-pod").await;
    page.fill("#log", "error: the pump is broken").await;
    page.click("//button[normalize-space()='Report']").await;
    page.wait_for("#namespace-wrong").await;
    assert_eq!(page.eval_on("#log", "element.value").await, "error: the pump is broken");
    assert_eq!(page.attribute("#namespace", "aria-describedby").await.as_deref(), Some("namespace-wrong"));
    page.fill("#namespace", "ci").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.log");
    std::fs::write(&file, "error: the valve is broken\n").unwrap();
    page.fill("#log", "").await;
    page.fill("#log_file", file.to_str().unwrap()).await;
    page.click("//button[normalize-space()='Report']").await;
    page.wait_for("//h1[normalize-space()='ci/pump-pod']").await;
    let url = page.url().await;
    let id = url.rsplit('/').next().unwrap();
    ended(&app, &format!("/reports/{id}")).await;
    let text = app.get(&format!("/api/reports/{id}/evidence/E1")).await.body;
    assert!(text.as_str().unwrap().contains("the valve is broken"), "{text}");
    app.stop().await;
}
