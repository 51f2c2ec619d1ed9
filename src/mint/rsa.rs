//! Making an RSA key: the one thing about signing keys that ring does not do.
//!
//! `crypto-primes` finds the primes, `pkcs1` writes them down, and ring checks all of it when it
//! reads the key. The `rsa` crate is not used: its private operation leaks time (RUSTSEC-2023-0071).

use crypto_bigint::{NonZero, U1024, U2048};
use crypto_primes::{Flavor, random_prime};
use getrandom::SysRng;
use getrandom::rand_core::UnwrapErr;
use pkcs1::der::Encode;
use pkcs1::der::asn1::UintRef;
use ring::signature::RsaKeyPair;
use zeroize::Zeroizing;

use crate::mint::key_pair::KeyPairError;

/// Bits of each prime.
const PRIME_BITS: u32 = 1024;
/// The exponent that everybody uses and every verifier knows.
const EXPONENT: u32 = 65537;
/// Two primes of full size give a modulus of full size four times in ten.
const ATTEMPTS: usize = 100;

/// A new key of 2048 bits, as PKCS#1 (RFC 8017, appendix A.1.2).
pub(super) fn generate() -> Result<Zeroizing<Vec<u8>>, KeyPairError> {
    let mut random = UnwrapErr(SysRng);
    for _ in 0..ATTEMPTS {
        let p: U1024 = random_prime(&mut random, Flavor::Any, PRIME_BITS);
        let q: U1024 = random_prime(&mut random, Flavor::Any, PRIME_BITS);
        if let Some(key) = write_key(&p, &q).filter(|key| RsaKeyPair::from_der(key).is_ok()) {
            return Ok(key);
        }
    }
    Err(KeyPairError)
}

/// The key of two primes, if the exponent has an inverse. What else must hold, ring checks.
fn write_key(p: &U1024, q: &U1024) -> Option<Zeroizing<Vec<u8>>> {
    let below_p = p.wrapping_sub(&U1024::ONE);
    let below_q = q.wrapping_sub(&U1024::ONE);
    let modulus: U2048 = p.concatenating_mul(q);
    // ring takes 2047 bits, and strict clients do not: RFC 7518, section 3.3
    if modulus.bits_vartime() != 2 * PRIME_BITS {
        return None;
    }
    let order: U2048 = below_p.concatenating_mul(&below_q);
    let d = inverse_2048(&order)?;
    let d_p = inverse_1024(&U1024::from(EXPONENT), &below_p)?;
    let d_q = inverse_1024(&U1024::from(EXPONENT), &below_q)?;
    let q_inverse = inverse_1024(q, p)?;

    let parts = [p, q, &d_p, &d_q, &q_inverse].map(|part| secret(&part.to_be_bytes()));
    let [p, q, d_p, d_q, q_inverse] = &parts;
    let (modulus, exponent) = (modulus.to_be_bytes(), EXPONENT.to_be_bytes());
    let d = secret(&d.to_be_bytes());
    let key = pkcs1::RsaPrivateKeyRef {
        modulus: UintRef::new(modulus.as_ref()).ok()?,
        public_exponent: UintRef::new(&exponent).ok()?,
        private_exponent: UintRef::new(&d).ok()?,
        prime1: UintRef::new(p).ok()?,
        prime2: UintRef::new(q).ok()?,
        exponent1: UintRef::new(d_p).ok()?,
        exponent2: UintRef::new(d_q).ok()?,
        coefficient: UintRef::new(q_inverse).ok()?,
        other_prime_infos: None,
    };
    key.to_der().ok().map(Zeroizing::new)
}

fn secret(bytes: &impl AsRef<[u8]>) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(bytes.as_ref().to_vec())
}

fn inverse_2048(modulus: &U2048) -> Option<U2048> {
    let modulus = Option::<NonZero<U2048>>::from(NonZero::new(*modulus))?;
    U2048::from(EXPONENT).invert_mod(&modulus).into()
}

fn inverse_1024(number: &U1024, modulus: &U1024) -> Option<U1024> {
    let modulus = Option::<NonZero<U1024>>::from(NonZero::new(*modulus))?;
    number.invert_mod(&modulus).into()
}

#[cfg(test)]
mod tests {
    use ring::rsa::PublicKeyComponents;
    use ring::signature::KeyPair as _;

    use super::*;

    #[test]
    fn a_modulus_has_2048_bits_and_not_one_less() {
        for _ in 0..12 {
            let key = RsaKeyPair::from_der(&generate().unwrap()).unwrap();
            let public = PublicKeyComponents::<Vec<u8>>::from(key.public_key());
            assert_eq!((public.n.len(), public.n[0] >> 7), (256, 1));
        }
    }
}
