//! The container runtime interface (`runtime.v1`), as the kubelet uses it.

use crate::runtimes::Machine;
use crate::runtimes::containerd::SOCKET;
use crate::runtimes::grpc::{self, Message};
use crate::runtimes::image::IMAGE;
use crate::{Context, Host, Lab, Result, ensure_eq};

/// The kubelet's client of containerd.
#[derive(Clone, Copy, Debug)]
pub struct Cri<'m> {
    machine: &'m Machine,
}

/// What a pod is to be.
#[derive(Clone, Debug, Default)]
pub struct PodSpec {
    /// Its name, in namespace `default`.
    pub name: &'static str,
    /// `(container port, host port)` of TCP.
    pub ports: Vec<(u16, u16)>,
    /// Annotations.
    pub annotations: Vec<(&'static str, &'static str)>,
}

/// A pod with one container that sleeps. It is not removed with this.
#[derive(Clone, Debug)]
pub struct Pod {
    /// The sandbox.
    pub id: String,
    /// The container in it.
    pub container: String,
    /// Its first address, and then the others.
    pub addresses: Vec<String>,
}

impl<'m> Cri<'m> {
    pub(super) const fn new(machine: &'m Machine) -> Self {
        Self { machine }
    }

    fn call(&self, method: &str, request: &Message) -> Result<Message> {
        grpc::call(self.machine, SOCKET, &format!("runtime.v1.RuntimeService/{method}"), request)
    }

    /// Why pods have no network yet; `None` where they have.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn network_trouble(&self) -> Result<Option<String>> {
        for condition in self.call("Status", &Message::new())?.get(1)?.all(1)? {
            if condition.get(1)?.into_text()? == "NetworkReady" {
                let ready = condition.get_number(2)? == 1;
                return Ok(if ready { None } else { Some(condition.get(4)?.into_text()?) });
            }
        }
        Ok(Some("nothing is said of networks".to_owned()))
    }

    /// RunPodSandbox, CreateContainer, StartContainer.
    ///
    /// # Errors
    /// What is answered.
    pub fn run(&self, lab: &Lab, spec: &PodSpec) -> Result<Pod> {
        let config = self.sandbox(lab, spec)?;
        let id = self.call("RunPodSandbox", &Message::new().message(1, &config))?.get(1)?.into_text()?;
        let mut container = Message::new();
        container = container.message(1, &Message::new().text(1, "main"));
        container = container.message(2, &Message::new().text(1, IMAGE));
        container = container.text(11, &format!("{}.log", spec.name));
        let request = Message::new().text(1, &id).message(2, &container).message(3, &config);
        let container = self.call("CreateContainer", &request)?.get(1)?.into_text()?;
        self.call("StartContainer", &Message::new().text(1, &container))?;
        let network = self.call("PodSandboxStatus", &Message::new().text(1, &id))?.get(1)?.get(5)?;
        let mut addresses = vec![network.get(1)?.into_text()?];
        for address in network.all(2)? {
            addresses.push(address.get(1)?.into_text()?);
        }
        Ok(Pod { id, container, addresses })
    }

    /// RunPodSandbox alone, which is to be refused; returns what is said.
    ///
    /// # Errors
    /// Where it succeeds.
    pub fn refused(&self, lab: &Lab, spec: &PodSpec) -> Result<String> {
        match self.call("RunPodSandbox", &Message::new().message(1, &self.sandbox(lab, spec)?)) {
            Ok(_) => Err(crate::Failure::new(format!("pod {} was made", spec.name))),
            Err(failure) => Ok(failure.to_string()),
        }
    }

    fn sandbox(&self, lab: &Lab, spec: &PodSpec) -> Result<Message> {
        let name = Message::new().text(1, spec.name).text(2, &format!("uid-{}", spec.name)).text(3, "default");
        let logs = lab.folder(&format!("{}-pods", self.machine.name()))?;
        let mut config = Message::new().message(1, &name).text(2, spec.name).text(3, &logs.to_string_lossy());
        for (inside, outside) in &spec.ports {
            config = config.message(5, &Message::new().number(2, (*inside).into()).number(3, (*outside).into()));
        }
        for (key, value) in &spec.annotations {
            config = config.entry(7, key, value);
        }
        Ok(config.message(8, &Message::new().text(1, &format!("/{}", self.machine.cgroup()))))
    }

    /// ExecSync: runs a command in a pod.
    ///
    /// # Errors
    /// Where it fails.
    pub fn exec(&self, pod: &Pod, words: &str) -> Result<String> {
        let mut request = Message::new().text(1, &pod.container);
        for word in words.split_whitespace() {
            request = request.text(2, word);
        }
        let answer = self.call("ExecSync", &request.number(3, 20))?;
        let (stdout, stderr) = (answer.get(1)?.into_text()?, answer.get(2)?.into_text()?);
        ensure_eq!(answer.get_number(3)?, 0, "exit code of {words} ({stderr} {stdout})");
        Ok(stdout)
    }

    /// StopPodSandbox, which calls DEL. It may be called again until the pod is removed.
    ///
    /// # Errors
    /// What is answered.
    pub fn stop(&self, pod: &Pod) -> Result {
        self.call("StopPodSandbox", &Message::new().text(1, &pod.id)).map(drop)
    }

    /// RemovePodSandbox.
    ///
    /// # Errors
    /// What is answered.
    pub fn remove(&self, pod: &Pod) -> Result {
        self.call("RemovePodSandbox", &Message::new().text(1, &pod.id)).map(drop)
    }

    /// The pod, for traffic of the harness.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn container(&self, name: &str, pod: &Pod) -> Result<Host> {
        let list = self.machine.ok("ctr -n k8s.io task ls")?;
        let line = list.lines().find(|line| line.starts_with(&pod.id));
        let pid = line.and_then(|line| line.split_whitespace().nth(1));
        self.machine.container(name, pid.context(format_args!("no {} in {list}", pod.id))?)
    }
}
