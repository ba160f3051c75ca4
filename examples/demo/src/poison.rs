//! An act: events that the service cannot take end in the dead letters, and are delivered when it is fixed.
//!
//! Called by `main`. The commands are those that an operator types, run by the real program. As everywhere, each step is
//! shown when it has been seen.

use anyhow::{Context, ensure};
use tokio::time::Instant;

use crate::events;
use crate::path::{LIMIT, Path};
use crate::processes::{N_ATTEMPTS, Processes};
use crate::show::Colour;
use crate::watch::Message;

impl Path {
    /// Shows it from end to end.
    ///
    /// # Errors
    /// When the dead letters are not what they should be, or do not arrive in the end.
    pub(crate) async fn poison(&mut self, processes: &Processes) -> anyhow::Result<()> {
        self.show.headline("Events that the service cannot take")?;
        self.show.text(&format!(
            "On one it crashes, so that it is asked {N_ATTEMPTS} times (DELIVERY_RETRY={}); the other it does not know.\n",
            N_ATTEMPTS - 1
        ))?;
        let messages = self.give_up_all().await?;
        let n = messages.len();

        self.show
            .text("They are kept with the reason, beside the message that is no event (lines are cut here):")?;
        let (listed, _) = self.command(processes, &["list"]).await?;
        let is_listed = |message: &Message| message.id().is_some_and(|id| listed.contains(id));
        ensure!(
            messages.iter().all(is_listed),
            "the list has not all of them:\n{listed}"
        );
        let n_lines = listed.lines().filter(|line| line.contains("Z  ")).count() as u64;
        let expected = self.tally.given_up + self.tally.malformed;
        ensure!(n_lines == expected, "{n_lines} dead letters are listed, not {expected}");

        self.show
            .text("What is no event cannot become one, and is deleted. Then the service is fixed.")?;
        self.command(processes, &["purge", "--reason", "malformed", "--yes"])
            .await?;
        self.service.fix();
        let fixed = Instant::now();
        let (redriven, _) = self.command(processes, &["redrive", "--all"]).await?;
        ensure!(
            redriven.contains(&format!("of {n} dead letters {n} were delivered")) && redriven.contains(" 0 are left"),
            "the redrive says: {redriven}"
        );
        for message in &messages {
            self.redriven(message, fixed).await?;
        }
        let (listed, said) = self.command(processes, &["list"]).await?;
        ensure!(
            listed.is_empty() && said.contains("there are no dead letters"),
            "dead letters are left:\n{listed}{said}"
        );
        Ok(())
    }

    /// Publishes what the service cannot take, and follows it into the dead letters.
    async fn give_up_all(&mut self) -> anyhow::Result<Vec<Message>> {
        let mut messages = Vec::new();
        for (publication, n_attempts) in events::poison()?.into_iter().zip([N_ATTEMPTS, 1]) {
            let (given_up, retried) = (self.tally.given_up, self.tally.retried);
            self.publish(publication).await?;
            let message = self.next(LIMIT).await?;
            messages.push(message.clone());
            self.follow(message).await?;
            let (given_up, retried) = (self.tally.given_up - given_up, self.tally.retried - retried);
            ensure!(
                (given_up, retried + 1) == (1, n_attempts),
                "given up {given_up} times after {} attempts, not once after {n_attempts}",
                retried + 1
            );
        }
        Ok(messages)
    }

    /// The service has it now, and answers it.
    async fn redriven(&mut self, message: &Message, fixed: Instant) -> anyhow::Result<()> {
        let request = message.id().and_then(|id| self.service.take_attempt(id));
        let request = request.context("the redrive says that it was delivered, the service knows nothing of it")?;
        ensure!(request.status == 200, "the fixed service answered {}", request.status);
        let text = format!("{} by the redrive: answered {}", message.subject, request.status);
        self.show
            .step(Colour::Green, "delivered", &text, Some((fixed, request.arrived)))?;
        self.tally.redriven += 1;
        for answer in self.answers(message).await? {
            let since = Some((fixed, answer.since));
            self.show.step(Colour::Green, "came back", &answer.subject, since)?;
        }
        Ok(self.show.gap()?)
    }

    /// Runs `distributor dead-letter …`, shows it, and returns what it printed on standard output and standard error.
    async fn command(&mut self, processes: &Processes, arguments: &[&str]) -> anyhow::Result<(String, String)> {
        self.show
            .command(&format!("distributor dead-letter {}", arguments.join(" ")))?;
        let output = processes.dead_letter(arguments).await?;
        if arguments == ["list"] {
            for line in output.stdout.lines() {
                self.show.text(line)?;
            }
            self.show.sentences(&output.stderr)?;
        } else {
            self.show.sentences(&output.stderr)?;
            self.show.sentences(&output.stdout)?;
        }
        self.show.gap()?;
        ensure!(
            output.exit_code == Some(0),
            "it ended with exit code {:?}",
            output.exit_code
        );
        Ok((output.stdout, output.stderr))
    }
}
