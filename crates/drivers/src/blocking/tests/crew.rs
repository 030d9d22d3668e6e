//! Those who serve the connections of one process, and the thread that accepts.
#![forbid(unsafe_code)]

use std::{sync::mpsc, thread};

use roadstead_proto::{budget::Budget, host::Shared};

use super::*;
use crate::{
    accept::Door,
    blocking::{
        company::Company,
        crew::{Crew, Living, Spawner},
        iterative::Iterative,
    },
    net::REST,
    orders::Order,
};

/// What is done with each connection.
enum Hands {
    Keep(Mutex<Vec<Living<Scripted>>>),
    Refuse,
}

impl Spawner<Scripted> for Arc<Hands> {
    fn serve(&self, connection: Living<Scripted>) -> io::Result<()> {
        match &**self {
            Hands::Keep(kept) => kept.lock().unwrap().push(connection),
            Hands::Refuse => return Err(io::ErrorKind::OutOfMemory.into()),
        }
        Ok(())
    }
}

struct Scene {
    net: Scripted,
    shared: Arc<Shared>,
    /// What everybody hears, one after the other.
    heard: Heard,
    crew: Arc<Crew<Scripted>>,
    bells: Arc<Mutex<Vec<Arc<Bell>>>>,
}

/// Those who come are served by `spawner`; each that is served closes when it was opened.
fn scene(spawner: impl Spawner<Scripted> + 'static) -> Scene {
    let (net, shared, bells) = (Scripted::default(), Shared::new(Budget::default()), Arc::default());
    let (lent, rings) = (Arc::clone(&shared), Arc::<Mutex<Vec<_>>>::clone(&bells));
    let host = Box::new(move || {
        let host = Host::alone(Arc::clone(&lent), 1);
        rings.lock().unwrap().push(Arc::clone(&host.bell));
        host
    });
    let crew = Crew::new(net.clone(), host, Box::new(spawner), Box::new(Iterative)).unwrap();
    Scene { net, shared, heard: Heard::default(), crew, bells }
}

impl Scene {
    fn doors(&self, count: usize) -> Arc<[Door<usize>]> {
        let (heard, shared) = (Arc::clone(&self.heard), Arc::clone(&self.shared));
        let open = Arc::new(move |_, permit| {
            let shared = Arc::clone(&shared);
            let (mut puppet, _) = Puppet::new(move |heard, wishes, _| {
                if heard == "opened" {
                    assert!(shared.snapshot().accepted > 0, "it is counted as long as it lives");
                    wishes.close();
                }
            });
            (puppet.heard, puppet._permit) = (Arc::clone(&heard), Some(permit));
            puppet as Box<dyn Endpoint>
        });
        let open: Arc<crate::accept::Open> = open;
        let doors = (0..count).map(|listener| Door { listener, open: Arc::clone(&open) });
        self.crew.watch(doors.collect())
    }

    /// Somebody comes to a listener, or fails to.
    fn comes(&self, listener: usize, who: impl IntoIterator<Item = Option<Failure>> + Send + 'static) {
        self.net.then(move |net| net.world().backlogs[listener].extend(who));
    }

    /// Whoever accepts is ordered this while it waits.
    fn ordered(&self, orders: Order) {
        let crew = Arc::clone(&self.crew);
        self.net.then(move |_| crew.raise(orders));
    }

    /// Nobody is left to be waited for.
    fn ends(&self) {
        let (crew, (sender, ended)) = (Arc::clone(&self.crew), mpsc::channel());
        thread::spawn(move || {
            crew.end();
            sender.send(()).is_ok()
        });
        ended.recv_timeout(Duration::from_secs(5)).expect("somebody who has gone is waited for");
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

fn at_doors(count: usize) -> Wait {
    Wait::AtDoors(count, None)
}

const RESTS: Wait = Wait::AtDoors(0, Some(REST));

#[test]
fn one_that_broke_while_it_waited_costs_nobody_anything() {
    let scene = scene(Iterative);
    scene.net.world().backlogs[0].extend([Some(Failure::Passing), None]);
    scene.comes(0, []);
    scene.comes(0, []);
    scene.ordered(Order::Drain);
    scene.crew.accept(&scene.doors(1)).unwrap();
    assert_eq!(scene.heard(), ["opened"]);
    assert_eq!(scene.net.world().waits, [at_doors(1); 3]);
    let counted = scene.shared.snapshot();
    assert_eq!((counted.accepted, counted.refused, counted.open), (1, 0, 0));
}

#[test]
fn a_listener_without_room_rests_and_keeps_no_other_from_being_asked() {
    for failure in [Failure::NoRoom, Failure::Other, Failure::NoDescriptors] {
        let scene = scene(Iterative);
        scene.net.world().cramped = true;
        scene.net.world().backlogs[0].extend([Some(failure), None]);
        scene.net.world().backlogs[1].extend([None]);
        scene.comes(0, []);
        scene.net.then(|net| assert_eq!(net.world().closed, [false], "the other was served"));
        scene.comes(0, []);
        scene.ordered(Order::Drain);
        scene.crew.accept(&scene.doors(2)).unwrap();
        assert_eq!(scene.net.world().waits, [at_doors(2), RESTS, at_doors(2), at_doors(2)], "{failure}");
        assert_eq!(scene.heard(), ["opened", "opened"]);
    }
}

#[test]
fn who_is_turned_away_for_want_of_descriptors_is_counted_and_nobody_rests() {
    let scene = scene(Iterative);
    scene.comes(0, [Some(Failure::NoDescriptors), None]);
    scene.comes(0, []);
    scene.ordered(Order::Drain);
    scene.crew.accept(&scene.doors(1)).unwrap();
    assert_eq!(scene.net.world().waits, [at_doors(1); 3]);
    let counted = scene.shared.snapshot();
    assert_eq!((counted.accepted, counted.refused, scene.net.world().shed), (1, 1, 1));
}

#[test]
fn who_waits_when_a_drain_begins_is_let_in_and_told_and_who_waits_when_a_stop_does_is_refused() {
    for (orders, heard, accepted, refused) in
        [(Order::Drain, &["drain", "opened", "drain", "opened"][..], 2, 0), (Order::Stop, &[], 0, 2)]
    {
        let scene = scene(Iterative);
        let crew = Arc::clone(&scene.crew);
        scene.net.then(move |net| {
            net.world().backlogs = [VecDeque::from([None]), VecDeque::from([None])];
            crew.raise(orders);
            assert_eq!(net.world().hung_up, [0, 1], "nobody comes any more");
        });
        scene.crew.accept(&scene.doors(2)).unwrap();
        assert_eq!(scene.heard(), heard);
        let counted = scene.shared.snapshot();
        assert_eq!((counted.accepted, counted.refused, counted.open), (accepted, refused, 0));
    }
}

#[test]
fn no_order_is_taken_back() {
    let scene = scene(Iterative);
    scene.crew.raise(Order::Stop);
    scene.crew.raise(Order::Drain);
    assert_eq!(scene.crew.order(), Order::Stop);
}

#[test]
fn an_order_that_comes_before_the_wait_is_heard_without_one() {
    let scene = scene(Iterative);
    let doors = scene.doors(1);
    scene.crew.raise(Order::Drain);
    scene.crew.accept(&doors).unwrap();
    let world = scene.net.world();
    assert_eq!((&world.waits[..], &world.hung_up[..]), (&[][..], &[0][..]));
}

#[test]
fn everybody_who_lives_is_called_when_something_is_ordered_and_who_has_gone_is_not_waited_for() {
    let hands = Arc::new(Hands::Keep(Mutex::default()));
    let scene = scene(Arc::clone(&hands));
    scene.comes(0, [None]);
    let (shared, crew, bells) =
        (Arc::clone(&scene.shared), Arc::clone(&scene.crew), Arc::clone(&scene.bells));
    scene.comes(0, []);
    scene.net.then(move |_| {
        assert_eq!((shared.snapshot().accepted, shared.snapshot().open), (1, 1), "it is known at once");
        crew.raise(Order::Drain);
        let bells = bells.lock().unwrap();
        let rung = bells.iter().filter(|bell| !bell.fall_asleep()).count();
        assert_eq!((bells.len(), rung), (2, 1), "the one that lives, not the host of who accepts");
    });
    scene.crew.accept(&scene.doors(1)).unwrap();
    let Hands::Keep(kept) = &*hands else { unreachable!() };
    drop(std::mem::take(&mut *kept.lock().unwrap()));
    scene.ends();
    assert_eq!(scene.shared.snapshot().open, 0);
}

#[test]
fn who_finds_nobody_to_serve_it_is_neither_waited_for_nor_counted_as_open() {
    let scene = scene(Arc::new(Hands::Refuse));
    scene.comes(0, [None]);
    scene.ordered(Order::Drain);
    scene.crew.accept(&scene.doors(1)).unwrap();
    scene.ends();
    assert_eq!(scene.shared.snapshot().open, 0);
}

#[test]
fn who_dials_is_counted_and_needs_nobody_of_those_who_serve() {
    let scene = scene(Arc::new(Hands::Refuse));
    let (puppet, heard) = Puppet::new(|heard, wishes, _| {
        if heard == "opened" {
            wishes.close();
        }
    });
    scene.net.then(|net| net.world().decided.push_back(Ok(())));
    Arc::clone(&scene.crew).connect(guest(), puppet);
    assert_eq!((&heard.lock().unwrap()[..], scene.shared.snapshot().connected), (&["opened".into()][..], 1));
}

#[test]
fn when_accepting_fails_everybody_stops_and_whoever_holds_the_server_knows_why() {
    let scene = scene(Iterative);
    let mut ended = None;
    scene.net.then(|net| net.world().unable.push_back(Err(io::ErrorKind::InvalidInput.into())));
    scene.crew.run(scene.doors(1), |accept| ended.insert(accept()).is_ok());
    assert_eq!((scene.crew.order(), &scene.net.world().hung_up[..]), (Order::Stop, &[0][..]));
    assert!(matches!(ended, Some(Err(_))));
}
