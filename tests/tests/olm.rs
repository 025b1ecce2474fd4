//! The bundle by OLM's own rules.

use anyhow::{Result, ensure};
use fedistio_tests::{Binaries, install::fedistio_ok};
use std::process::Command;

#[tokio::test]
async fn olm_finds_nothing_wrong_with_the_bundle() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let bundle = dir.path().display().to_string();
    fedistio_ok(&["olm", "bundle", "-o", &bundle]).await?;
    let verify = Binaries::user()?.operator_verify().await?;
    // Its exit code is 0 whatever it finds.
    let verify = || -> Result<String> {
        let output = Command::new(&verify).arg("manifests").arg(dir.path().join("manifests")).output()?;
        ensure!(output.status.success(), "operator-verify does not run");
        Ok(String::from_utf8(output.stderr)?.trim().to_owned())
    };
    let said = verify()?;
    ensure!(said.is_empty(), "operator-verify says:\n{said}");
    // It has looked, and does find mistakes.
    let csv = dir.path().join("manifests/fedistio.clusterserviceversion.yaml");
    let text = std::fs::read_to_string(&csv)?;
    ensure!(text.contains("installModes:"), "the ClusterServiceVersion has no install modes");
    std::fs::write(&csv, text.replace("installModes:", "uninstallModes:"))?;
    ensure!(verify()?.contains("install modes not found"), "a broken bundle passes");
    Ok(())
}
