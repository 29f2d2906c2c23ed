//! A private RabbitMQ: its own ports, directory, epmd and cookie, gone with the test that started it.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::disallowed_methods, reason = "nothing tells when another program listens")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use tempfile::TempDir;

/// How many virtual hosts there are, so that each test can have its own.
const VHOSTS: usize = 150;
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Starts the broker in its own session and kills it when told to, or at the end of its standard input, which
/// comes when the test is over in whatever way; then nothing is left of it.
const KEEPER: &str = r#"
setsid /usr/lib/rabbitmq/bin/rabbitmq-server </dev/null >"$DIRECTORY/out" 2>&1 &
server=$!
echo $server >"$DIRECTORY/session"
read -r told
kill -s KILL -- -$server
wait $server
for _ in 1 2 3 4 5 6 7 8 9 10; do
    epmd -port "$ERL_EPMD_PORT" -kill >/dev/null 2>&1 && break
    epmd -port "$ERL_EPMD_PORT" -names >/dev/null 2>&1 || break
    sleep 0.2
done
[ "$told" = kill ] || rm -rf "$DIRECTORY"
"#;

/// The plugin with which a certificate logs in.
const CERTIFICATES_LOG_IN: &str = "[rabbitmq_auth_mechanism_ssl].\n";

/// A running broker with user `syn`, password `secret`, and its own virtual hosts.
pub(crate) struct Rabbit {
    directory: TempDir,
    ports: [u16; 4],
    keeper: Option<Child>,
    next_vhost: AtomicUsize,
}

impl Rabbit {
    /// The account that may do everything.
    pub(crate) const USER: &str = "syn";
    /// Its password.
    pub(crate) const PASSWORD: &str = "secret";

    /// Starts a broker and waits until it answers: about 6 s on an idle machine.
    pub(crate) fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("rabbit-").tempdir().unwrap();
        let rabbit = Self { directory, ports: free_ports(), keeper: None, next_vhost: AtomicUsize::new(0) };
        rabbit.configure();
        rabbit.started()
    }

    /// The same with a port for TLS on 127.0.0.1 and 127.0.0.2, where a certificate may log in by its common name.
    /// `files` holds `ca.pem`, `server.pem` and `server.key`.
    pub(crate) fn start_with_tls(files: &Path) -> Self {
        let directory = tempfile::Builder::new().prefix("rabbit-").tempdir().unwrap();
        let rabbit = Self { directory, ports: free_ports(), keeper: None, next_vhost: AtomicUsize::new(0) };
        rabbit.configure();
        let path = rabbit.directory.path();
        fs::write(path.join("enabled_plugins"), CERTIFICATES_LOG_IN).unwrap();
        let (port, files) = (rabbit.tls_port(), files.display());
        let more = format!(
            "listeners.ssl.1 = 127.0.0.1:{port}\nlisteners.ssl.2 = 127.0.0.2:{port}\nssl_options.cacertfile = {files}/ca.pem\n\
             ssl_options.certfile = {files}/server.pem\nssl_options.keyfile = {files}/server.key\n\
             ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = false\n\
             ssl_cert_login_from = common_name\nauth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = EXTERNAL\n"
        );
        let mut configuration = fs::read_to_string(path.join("rabbitmq.conf")).unwrap();
        configuration.push_str(&more);
        fs::write(path.join("rabbitmq.conf"), configuration).unwrap();
        let rabbit = rabbit.started();
        let began = Instant::now();
        // These listeners come after the plain one, in any order.
        for host in ["127.0.0.1", "127.0.0.2"] {
            while TcpStream::connect((host, rabbit.tls_port())).is_err() {
                assert!(began.elapsed() < START_TIMEOUT, "RabbitMQ does not listen for TLS");
                thread::sleep(Duration::from_millis(50));
            }
        }
        rabbit
    }

    /// The port for TLS, where there is one.
    pub(crate) fn tls_port(&self) -> u16 {
        self.ports[3]
    }

    /// A program for which `rabbitmqctl` means this broker's.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        self.environment(&mut command);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("/usr/lib/rabbitmq/bin:{path}"));
        command
    }

    /// The AMQP port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.ports[0]
    }

    /// A virtual host that no other test has.
    pub(crate) fn vhost(&self) -> String {
        let number = self.next_vhost.fetch_add(1, Ordering::Relaxed);
        assert!(number < VHOSTS, "more tests than virtual hosts");
        format!("test{number}")
    }

    /// SIGKILL, as a crash would be.
    pub(crate) fn kill(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            keeper.stdin.take().unwrap().write_all(b"kill\n").unwrap();
            keeper.wait().unwrap();
            fs::remove_file(self.directory.path().join("session")).unwrap();
        }
    }

    /// Starts it again after [`Rabbit::kill`], with what it had on disk.
    pub(crate) fn restart(&mut self) {
        assert!(self.keeper.is_none(), "it is running");
        self.run();
    }

    fn started(mut self) -> Self {
        self.run();
        self
    }

    /// Runs one of RabbitMQ's own tools, such as `rabbitmqctl`; takes about a second.
    pub(crate) fn tool(&self, name: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(format!("/usr/lib/rabbitmq/bin/{name}"));
        self.environment(&mut command);
        let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn configure(&self) {
        let path = self.directory.path();
        for directory in ["home", "mnesia", "log", "gen"] {
            fs::create_dir(path.join(directory)).unwrap();
        }
        fs::write(path.join("enabled_plugins"), "[].\n").unwrap();
        fs::write(path.join("advanced.config"), "[].\n").unwrap();
        let configuration = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\nloopback_users = none\ndisk_free_limit.absolute = 50MB\n\
             definitions.import_backend = local_filesystem\ndefinitions.local.path = {}\n",
            self.port(),
            path.join("definitions.json").display()
        );
        fs::write(path.join("rabbitmq.conf"), configuration).unwrap();
        let vhosts: Vec<_> = (0..VHOSTS).map(|number| serde_json::json!({ "name": format!("test{number}") })).collect();
        let permissions: Vec<_> = (0..VHOSTS)
            .map(|number| {
                serde_json::json!({
                    "user": Self::USER, "vhost": format!("test{number}"), "configure": ".*", "write": ".*", "read": ".*"
                })
            })
            .collect();
        let definitions = serde_json::json!({
            "vhosts": vhosts,
            "users": [
                { "name": Self::USER, "password": Self::PASSWORD, "tags": "administrator" },
                { "name": "nobody", "password": Self::PASSWORD, "tags": "" },
            ],
            "permissions": permissions,
        });
        fs::write(path.join("definitions.json"), definitions.to_string()).unwrap();
    }

    fn environment(&self, command: &mut Command) {
        let path = self.directory.path();
        let [amqp, distribution, epmd, _] = self.ports;
        let cookie = "-setcookie rabbit";
        command
            .env("DIRECTORY", path)
            .env("HOME", path.join("home"))
            .env("RABBITMQ_NODENAME", format!("rabbit{amqp}@localhost"))
            .env("RABBITMQ_NODE_PORT", amqp.to_string())
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("ERL_EPMD_PORT", epmd.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_MNESIA_BASE", path.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", path.join("log"))
            .env("RABBITMQ_PID_FILE", path.join("pid"))
            .env("RABBITMQ_CONFIG_FILE", path.join("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", path.join("advanced.config"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path.join("enabled_plugins"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", path.join("gen"))
            .env("RABBITMQ_FEATURE_FLAGS_FILE", path.join("feature_flags"))
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                // Erlang's schedulers would otherwise spin while they wait, which is felt on a machine with few processors.
                format!(
                    "{cookie} -kernel inet_dist_use_interface {{127,0,0,1}} +sbwt none +sbwtdcpu none +sbwtdio none"
                ),
            )
            .env("RABBITMQ_CTL_ERL_ARGS", cookie);
    }

    #[allow(clippy::disallowed_methods, reason = "nothing tells when RabbitMQ begins to listen")]
    fn run(&mut self) {
        // A session of its own, so that no signal to the test reaches it and keeps it from its work.
        let mut command = Command::new("setsid");
        self.environment(&mut command);
        let keeper =
            command.args(["sh", "-c", KEEPER]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.keeper = Some(keeper.spawn().unwrap());
        let began = Instant::now();
        while !answers(self.port()) {
            if began.elapsed() > START_TIMEOUT || !self.is_alive() {
                let said = fs::read_to_string(self.directory.path().join("out")).unwrap_or_default();
                panic!("RabbitMQ did not start: {said}");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn is_alive(&self) -> bool {
        match fs::read_to_string(self.directory.path().join("session")) {
            Ok(session) => Path::new("/proc").join(session.trim()).exists(),
            Err(_) => true,
        }
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_ports() -> [u16; 4] {
    let listeners = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// Whether the AMQP greeting is answered with a frame on channel 0.
fn answers(port: u16) -> bool {
    let greet = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"AMQP\0\0\x09\x01")?;
        let mut first = [0; 3];
        stream.read_exact(&mut first)?;
        Ok(first == [1, 0, 0])
    };
    greet().unwrap_or(false)
}
