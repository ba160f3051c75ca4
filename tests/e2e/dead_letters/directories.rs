//! Dead letters as files.

use distributor::dead_letter::StoreError;

use super::*;

#[tokio::test]
async fn a_directory_keeps_files_that_the_commands_work_on() {
    let site = Site::start().await;
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("dead");
    let place = format!("file:{}", directory.display());
    let variables = [("DEAD_LETTER", place.as_str()), ("DEAD_LETTER_MAX_BYTES", "12KiB")];
    let run = async |arguments: &[&str]| site.run_with(arguments, &variables).await;
    let (exit_code, _, stderr) = run(&["list"]).await;
    assert_eq!(exit_code, 0);
    assert!(
        stderr.contains(&format!("the directory {} does not exist", directory.display())),
        "{stderr}"
    );

    let letters = site.letters_of(INTEGRATION, &variables).await;
    let binary = DeadLetter {
        payload: b"\xff\x00".as_slice().into(),
        ..letter("two")
    };
    for letter in [letter("one"), binary, letter("three")] {
        assert_eq!(letters.store(&letter).await.unwrap(), Stored::Directory);
    }
    std::fs::write(directory.join("99999999999999999999-x.json"), "{").unwrap();
    let (_, stdout, stderr) = run(&["list", "--json", "--integration", "all"]).await;
    let ids: Vec<_> = stdout
        .lines()
        .map(|line| text(&json(line.as_bytes())["event_id"]))
        .collect();
    assert_eq!(ids, ["one", "two", "three", ""], "{stderr}");
    let (_, stdout, _) = run(&["show", "1", "--payload"]).await;
    assert_eq!(stdout.trim_end().as_bytes(), letter("one").payload);
    let (_, stdout, _) = run(&["show", "2", "--json"]).await;
    assert_eq!(json(stdout.as_bytes())["payload_base64"], "/wA=");

    let (exit_code, stdout, stderr) = run(&["redrive", "--all", "--json"]).await;
    assert_eq!(exit_code, 1, "two is no event: {stderr}");
    let summary = json(stdout.as_bytes());
    assert_eq!(
        (&summary["delivered"], &summary["left"]),
        (&2.into(), &1.into()),
        "{summary}"
    );
    assert_eq!(summary["failures"][0]["event_id"], "two");
    let (_, stdout, _) = run(&["list", "--json"]).await;
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    run(&["purge", "--all", "--yes"]).await;
    let (_, _, stderr) = run(&["list"]).await;
    assert!(stderr.contains("1 in all"), "what is of nobody is of all: {stderr}");
}

#[tokio::test]
async fn a_directory_is_bounded_and_counts_what_was_there_before() {
    let site = Site::start().await;
    let folder = tempfile::tempdir().unwrap();
    let place = format!("file:{}", folder.path().display());
    let variables = [("DEAD_LETTER", place.as_str()), ("DEAD_LETTER_MAX_BYTES", "8KiB")];
    std::fs::write(folder.path().join("0-before.json"), vec![b' '; 4096]).unwrap();
    let letters = site.letters_of(INTEGRATION, &variables).await;
    let mut n_stored = 0;
    let error = loop {
        match letters.store(&letter(&format!("fill-{n_stored}"))).await {
            Ok(_) => n_stored += 1,
            Err(error) => break error,
        }
        assert!(n_stored < 20, "the directory takes more than it may");
    };
    assert!(n_stored > 0, "{error}");
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(error.to_string().contains("DEAD_LETTER_MAX_BYTES"), "{error}");
    std::fs::remove_file(folder.path().join("0-before.json")).unwrap();
    letters.store(&letter("late")).await.unwrap();
    let names = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert_eq!(names.count(), n_stored + 1, "no temporary file is left");
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_to_is_an_error_that_helps() {
    let site = Site::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let place = format!("file:{}", file.join("below").display());
    let letters = site.letters_of(INTEGRATION, &[("DEAD_LETTER", place.as_str())]).await;
    let error = letters.store(&letter("one")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unwritable { .. }), "{error:?}");
    assert!(error.to_string().contains("a mounted volume"), "{error}");
}
