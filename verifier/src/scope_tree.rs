//! Many scopes as a tree of their segments: which of them another one covers is found without holding each
//! against each.

use std::collections::HashMap;

use crate::scope::{Scope, ScopeView};

/// The scopes that no other one of them covers, in their order; of those that mean the same, the first.
pub(crate) fn without_covered(scopes: Vec<Scope>) -> Vec<Scope> {
    let mut tree = Tree::default();
    for (number, scope) in scopes.iter().enumerate() {
        tree.put(scope.view(), number);
    }
    let covered: Vec<bool> = scopes
        .iter()
        .enumerate()
        .map(|(number, scope)| tree.covers(scope.view(), number))
        .collect();
    let kept = scopes.into_iter().zip(covered).filter(|(_, is_covered)| !is_covered);
    kept.map(|(scope, _)| scope).collect()
}

/// The root has a child for each action, and a node has one for each segment that another one follows.
#[derive(Default)]
struct Tree<'s> {
    children: HashMap<(Node, &'s str), Node>,
    /// The first scope that ends below a node with a segment.
    ends: HashMap<(Node, &'s str), usize>,
}

type Node = usize;

const ROOT: Node = 0;

impl<'s> Tree<'s> {
    fn put(&mut self, scope: ScopeView<'s>, number: usize) {
        let (segments, last) = split_last(scope.filter());
        let mut node = self.child(ROOT, scope.action());
        for segment in segments {
            node = self.child(node, segment);
        }
        self.ends.entry((node, last)).or_insert(number);
    }

    fn child(&mut self, node: Node, name: &'s str) -> Node {
        let next = self.children.len() + 1;
        *self.children.entry((node, name)).or_insert(next)
    }

    /// Whether a scope other than this one covers it.
    fn covers(&self, narrow: ScopeView<'_>, number: usize) -> bool {
        let actions = [Some("*"), Some(narrow.action()).filter(|action| *action != "*")];
        actions.into_iter().flatten().any(|action| {
            let node = self.children.get(&(ROOT, action));
            node.is_some_and(|node| self.covers_below(*node, narrow.filter(), number))
        })
    }

    /// An open end reaches all that is below it. Else segments are compared one by one, and a wildcard takes
    /// any of them.
    fn covers_below(&self, node: Node, filter: &str, number: usize) -> bool {
        let is_another = |end: Option<&usize>| end.is_some_and(|end| *end != number);
        if is_another(self.ends.get(&(node, "*"))) {
            return true;
        }
        let Some((segment, rest)) = filter.split_once('/') else {
            let is_one = filter != "*";
            return is_another(self.ends.get(&(node, filter)))
                || is_one && is_another(self.ends.get(&(node, "?")));
        };
        let segments = [Some("*"), Some(segment).filter(|segment| *segment != "*")];
        segments.into_iter().flatten().any(|segment| {
            let child = self.children.get(&(node, segment));
            child.is_some_and(|child| self.covers_below(*child, rest, number))
        })
    }
}

/// The segments of a filter, and the last one.
fn split_last(filter: &str) -> (impl Iterator<Item = &str>, &str) {
    let (before, last) = match filter.rsplit_once('/') {
        Some((before, last)) => (Some(before), last),
        None => (None, filter),
    };
    (before.into_iter().flat_map(|before| before.split('/')), last)
}
