//! Removes demos that were kept, and what is left of those that were killed.

use std::fs;
use std::path::PathBuf;

use vswitch_sys::Netns;

use super::DemoError;
use super::access;
use super::daemon::{Files, end_left};
use super::folder::{self, Found, State};
use super::topology::PLANS;

/// Where demos of this user may be.
fn bases() -> Vec<PathBuf> {
    let mut bases = vec![folder::of_users()];
    bases.extend(access::is_root().then(folder::of_root));
    bases
}

/// Removes the demo called `name`, or all that were kept or abandoned; the names of those removed.
pub(super) fn remove(name: Option<&str>) -> Result<Vec<String>, DemoError> {
    let mut found: Vec<_> = bases().iter().flat_map(|base| folder::find(base)).collect();
    if let Some(name) = name {
        let kept: Vec<_> = found.iter().filter(|found| found.state == State::Kept).map(|f| f.name.clone()).collect();
        found.retain(|found| found.name == name);
        match found.first() {
            None => return Err(DemoError::NoDemo { name: name.to_owned(), kept }),
            Some(found) if found.state == State::Running => return Err(DemoError::Running(name.to_owned())),
            Some(_) => {}
        }
    }
    let found = found.into_iter().filter(|found| found.state != State::Running);
    found.map(|found| remove_one(&found).map(|()| found.name.clone())).collect()
}

/// Removes what demos left that were killed. What cannot be removed now can be with `--remove`.
pub(super) fn sweep() {
    let found = bases().iter().flat_map(|base| folder::find(base)).collect::<Vec<_>>();
    for abandoned in found.iter().filter(|found| found.state == State::Abandoned) {
        let _ = remove_one(abandoned);
    }
}

fn remove_one(Found { path, name, .. }: &Found) -> Result<(), DemoError> {
    for plan in PLANS {
        let files = Files::new(path, plan.host);
        if !end_left(&files) {
            return Err(DemoError::StillRuns { pid_file: files.pid });
        }
    }
    for part in PLANS.iter().flat_map(|plan| [plan.host, plan.container]) {
        // Not there: the demo had its own namespaces' names, which are gone with it, or came not as far.
        let _ = Netns::delete_named(&format!("{name}-{part}"));
    }
    fs::remove_dir_all(path).map_err(|error| DemoError::Folder { operation: "remove", path: path.clone(), error })
}
