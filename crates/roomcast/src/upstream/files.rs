//! Where the `.proto` files of a profile are. Reads them, and knows nothing of what stands in them.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The most that is read of one file.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// The folders of a profile's files, in which the first that has a file wins; behind them are those that come with the gateway.
#[derive(Debug, Clone, Default)]
pub struct Files {
    folders: Vec<PathBuf>,
}

impl Files {
    /// Those of a profile of this name, which comes with the gateway or stands in the file `beside` which they may be.
    pub fn of_profile(name: &str, beside: Option<&Path>) -> Self {
        let own = Path::new("profiles").join(name);
        let beside = beside.map(|file| match file.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            Some(_) | None => PathBuf::from("."),
        });
        Self { folders: [own].into_iter().chain(beside).collect() }
    }

    /// Those of a folder.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folders: vec![folder.into()] }
    }

    /// The text of a file, and where it was; `None` where no folder has it.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub(super) fn find(&self, name: &str) -> anyhow::Result<Option<(String, String)>> {
        for path in self.folders.iter().map(|folder| folder.join(name)) {
            match std::fs::metadata(&path) {
                Ok(metadata) if metadata.len() > FILE_MAX_BYTES => {
                    anyhow::bail!("{} is larger than a .proto file may be ({FILE_MAX_BYTES} bytes)", path.display())
                }
                Ok(_) => {
                    let text =
                        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                    return Ok(Some((text, path.display().to_string())));
                }
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
            }
        }
        Ok(hub::profile::builtin_proto(name).map(|text| (text.to_owned(), "built in".to_owned())))
    }

    /// That none of them has a file.
    pub(super) fn without(&self, name: &str) -> String {
        let folders: Vec<String> = self.folders.iter().map(|folder| format!("`{}`", folder.display())).collect();
        let looked = if folders.is_empty() { String::new() } else { format!(" in {}", folders.join(" nor in ")) };
        format!("there is no file `{name}`{looked}, and none comes with the gateway")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what a test cannot go on without")]
mod tests {
    use super::*;

    #[test]
    fn a_file_beside_the_profile_wins_over_the_one_that_comes_with_the_gateway() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::of_profile("mine", Some(&folder.path().join("mine.toml")));
        assert_eq!(files.find("location.proto").unwrap().unwrap().1, "built in");
        assert_eq!(files.find("nowhere.proto").unwrap(), None);
        std::fs::write(folder.path().join("location.proto"), "own").unwrap();
        assert_eq!(files.find("location.proto").unwrap().unwrap().0, "own");
    }
}
