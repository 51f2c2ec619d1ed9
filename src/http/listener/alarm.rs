//! Waiting beside work for what happens seldom, without asking after it each time the work goes on.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Ends with the work, or with what the alarm says where that comes first.
///
/// The alarm is polled when it has woken this task, and not when the work has: to ask a timer and a
/// channel anew for each request takes locks that all connections share.
pub(super) async fn unless<W, A>(mut work: Pin<&mut W>, alarm: A) -> Option<A::Output>
where
    W: Future,
    A: Future,
{
    let (mut alarm, mut bell) = (pin!(alarm), None::<Arc<Bell>>);
    poll_fn(move |context| {
        if work.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        let task = context.waker();
        let bell = match &mut bell {
            Some(bell) if bell.task.will_wake(task) => bell,
            bell => bell.insert(Bell::of(task)),
        };
        if !bell.has_rung.swap(false, Ordering::Acquire) {
            return Poll::Pending;
        }
        let waker = Waker::from(bell.clone());
        alarm.as_mut().poll(&mut Context::from_waker(&waker)).map(Some)
    })
    .await
}

/// What an alarm wakes its task by.
struct Bell {
    has_rung: AtomicBool,
    task: Waker,
}

impl Bell {
    /// One that has rung: the first poll is what tells the alarm whom to wake.
    fn of(task: &Waker) -> Arc<Self> {
        Arc::new(Self { has_rung: AtomicBool::new(true), task: task.clone() })
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_rung.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn an_alarm_is_polled_once_and_then_when_it_has_something_to_say() {
        let (polls, working, ringing) = (Cell::new(0), Notify::new(), Notify::new());
        let mut work = pin!(async {
            loop {
                working.notified().await;
            }
        });
        let alarm = async {
            let mut rung = pin!(ringing.notified());
            poll_fn(|context| {
                polls.set(polls.get() + 1);
                rung.as_mut().poll(context)
            })
            .await;
            "rung"
        };
        let other = async {
            for _ in 0..10 {
                working.notify_one();
                tokio::task::yield_now().await;
            }
            assert_eq!(polls.get(), 1);
            ringing.notify_one();
        };
        let (ended, ()) = tokio::join!(async { unless(work.as_mut(), alarm).await }, other);
        assert_eq!((ended, polls.get()), (Some("rung"), 2));
        let mut done = pin!(async {});
        assert_eq!(unless(done.as_mut(), std::future::pending::<()>()).await, None);
    }
}
