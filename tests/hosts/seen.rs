//! What an administrator sees of the service where they are used to look.

use super::bed::Bed;

/// Who looks does not start what somebody has stopped.
pub fn stop(bed: &Bed) {
    let host = &bed.central;
    host.run("systemctl stop synkler");
    let said = host.try_run("synklerctl status");
    assert_ne!(said.code, 0, "{}", said.out);
    assert_eq!(host.try_run("systemctl is-active synkler synkler.socket").out.trim(), "inactive\ninactive");
    host.run("systemctl start synkler");
    // All three nodes tell of themselves again.
    host.wait("synklerctl status");
}

/// `customerA/report.csv` has travelled.
pub fn look(bed: &Bed) {
    let mut transfers = Vec::new();
    for host in bed.hosts() {
        let shown = host.run("systemctl show -p ActiveState,SubState,StatusText synkler");
        assert!(shown.contains("ActiveState=active\nSubState=running\n"), "{shown}");
        let node = format!("StatusText={0} {0}: ", host.name);
        assert!(shown.contains(&node) && shown.contains("; broker connected\n"), "{shown}");
        let status = host.run("systemctl status --no-pager synkler");
        assert!(status.contains("Active: active (running)") && status.contains("Status: \""), "{status}");
        assert_eq!(host.run("systemctl is-enabled synkler synkler.socket").trim(), "enabled\nenabled");
        assert_eq!(host.run("systemctl is-active synkler synkler.socket").trim(), "active\nactive");

        let told = host.run("journalctl -u synkler SYNKLER_ITEM=customerA/report.csv -o json --output-fields=SYNKLER_TRANSFER,PRIORITY,SYSLOG_IDENTIFIER");
        assert!(told.lines().count() > 0);
        for line in told.lines() {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!((&entry["PRIORITY"], &entry["SYSLOG_IDENTIFIER"]), (&"6".into(), &"synkler".into()), "{line}");
            transfers.push(entry["SYNKLER_TRANSFER"].as_str().unwrap().to_owned());
        }
    }
    transfers.dedup();
    assert_eq!(transfers.len(), 1, "one transfer has one id on all hosts: {transfers:?}");
}
