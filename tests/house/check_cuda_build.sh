#!/usr/bin/env bash
# A build with CUDA is a CPU program where there is no GPU: it needs no library of NVIDIA's, says once why it takes the
# CPU, and holds code for every GPU asked for within 25 MB.   usage: check_cuda_build.sh BUILD
set -uo pipefail
build=$1
grep -q '^SIGHT_CUDA_MODE:INTERNAL=ON' "$build/CMakeCache.txt" || {
    echo "skipped: this build has no CUDA"
    exit 77
}
export CUDA_VISIBLE_DEVICES= # whatever this machine has
failed=0
wrong() {
    echo "FAILED: $*"
    failed=$((failed + 1))
}

for program in sight sightd; do
    if ldd "$build/$program" | grep -iE 'libcuda\.|libcudart|libcublas|libnccl|libnvcuvid'; then
        wrong "$program is linked to the above"
    fi
    bytes=$(size -A "$build/$program" | awk '/nv_fatbin/ {sum += $2} END {print sum + 0}')
    echo "$program: $bytes bytes for GPUs"
    [ "$bytes" -gt 0 ] && [ "$bytes" -lt 25000000 ] || wrong "that is none, or 25 MB or more"
done

nvcc=$(sed -n 's/^SIGHT_NVCC:[^=]*=//p' "$build/CMakeCache.txt")
objdump=$(dirname "$nvcc")/cuobjdump
asked=$(sed -n 's/^SIGHT_CUDA_ARCHITECTURES:[^=]*=//p' "$build/CMakeCache.txt" | tr ';' ' ')
if [ -x "$objdump" ]; then
    there=$("$objdump" --list-elf "$build/sight")
    for gpu in $asked; do
        [[ "$there" == *"sm_${gpu%-*}."* ]] || wrong "sight has no code for sm_${gpu%-*}"
    done
fi

said=$("$build/sightd" --check --model models/mini 2>&1) || wrong "sightd --check gave $?: $said"
[ "$(grep -c 'device: cpu (' <<<"$said")" = 1 ] || wrong "sightd does not say once why it takes the CPU: $said"
grep 'device: cpu (' <<<"$said"
said=$("$build/sightd" --check --device cuda:0 --model models/mini 2>&1) && wrong "there is no cuda:0, but: $said"
[[ "$said" == *"cuda:0"* ]] || wrong "no sentence about cuda:0: $said"
said=$("$build/sight" tokenize -m models/mini "a b" 2>&1) || wrong "sight tokenize: $said"
exit $((failed > 0))
