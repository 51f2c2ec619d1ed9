//! What is aimed at, beside what was measured. A figure that misses its aim says `MISSED`, for whoever looks through
//! many: a bench fails by no figure, since the machine has its part in each.

pub(crate) fn at_most(figure: &str, value: f64, aim: f64) {
    tell(figure, value, ("at most", aim), value <= aim);
}

pub(crate) fn at_least(figure: &str, value: f64, aim: f64) {
    tell(figure, value, ("at least", aim), value >= aim);
}

fn tell(figure: &str, value: f64, (side, aim): (&str, f64), is_met: bool) {
    let end = if is_met { "" } else { "   MISSED" };
    println!("aim  {figure:<44} {value:>10.2}   {side} {aim:.2}{end}");
}
