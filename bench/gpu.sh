#!/usr/bin/env bash
# One run on a machine with a GPU: builds, tests and measures, within 20 minutes on a machine of 16 cores, and writes
# one JSON file with what each stage gave.
#
#   bench/gpu.sh [--stages build,tests,sanitizer,bench,clip,transformers] [--build FOLDER] [--out JSON] [--needs FOLDER|FOLDER.tar.xz]
#   bench/gpu.sh --pack FOLDER
#
# A stage's results are put into JSON when it ends, so a later call with other stages goes on where one was cut off.
# Stages, and the seconds each may take at most:
#   build        with SIGHT_CUDA=ON, for this GPU alone
#   tests        ctest -L gpu: kernels against plain C, golden cases and greedy text through the whole pipeline
#   sanitizer    tests of kernels again under compute-sanitizer: memcheck, then racecheck
#   bench        sight bench of made-up weights, 0.8b 2b 4b 9b, in bf16 and int4; 4b and 9b in FP8 too
#   clip         a 1080p clip of 60 s at 2 fps through the daemon, the bundled model, on the GPU and on the CPU
#   transformers bench/against_transformers.py, 0.8b and 4b
# A machine where FFmpeg, ZeroMQ and the like cannot be installed builds against a folder that --pack made on one
# of the same processor that has them; its C library must not be older. nvcc, CMake and Ninja are not packed.
set -uo pipefail
cd "$(dirname "$0")/.."

stages=build,tests,sanitizer,bench,clip,transformers
build=build-gpu out=bench/results/gpu.json needs="" pack=""
while [ $# -gt 0 ]; do
    case $1 in
    --stages) stages=$2 ;;
    --build) build=$2 ;;
    --out) out=$2 ;;
    --needs) needs=$2 ;;
    --pack) pack=$2 ;;
    *)
        sed -n '2,19p' "$0" | cut -c3-
        exit 2
        ;;
    esac
    shift 2 || exit 2
done
started=$(date +%s)

modules="jansson libzmq libpcre2-8 libutf8proc libavformat libavcodec libavutil libswscale libjpeg libpng libmicrohttpd libseccomp libcurl cmocka"

# Codec libraries that FFmpeg is linked to and a decoded H.264 clip never calls: named alike, every function traps.
stand_in() { # stand_in LIBRARY OUT
    local soname script=""
    soname=$(readelf -d "$1" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
    nm -D --defined-only "$1" | awk '$2 ~ /^[TWiuVBDR]$/ {print $3}' | sort -u >"$2.names"
    { # one function of all names, without their versions
        echo ".text"
        sed 's/@.*//' "$2.names" | sort -u | awk '{printf ".globl \"%s\"\n\"%s\":\n", $1, $1}'
        echo "ud2"
        echo '.section .note.GNU-stack,"",@progbits'
    } >"$2.s"
    if grep -q @ "$2.names"; then
        awk -F'@+' 'NF == 2 {of[$2] = of[$2] "\"" $1 "\";"} END {for (v in of) print v " {" of[v] "};"}' "$2.names" >"$2.map"
        script=-Wl,--version-script=$2.map
    fi
    cc -shared -nostdlib -Wl,-soname,"$soname" $script "$2.s" -o "$2" && rm -f "$2.s" "$2.names" "$2.map"
}

pack_needs() { # pack_needs FOLDER
    local folder=$1 triplet
    triplet=$(cc -print-multiarch)
    rm -rf "$folder"
    mkdir -p "$folder/lib/pkgconfig" "$folder/include" "$folder/bin"
    for module in $modules; do
        local file
        file=$(pkg-config --variable=pcfiledir "$module")/$module.pc
        sed "s|^prefix=.*|prefix=@FOLDER@|; s|/usr/|@FOLDER@/|g; s|/lib/$triplet|/lib|g; s|/include/$triplet|/include|g" \
            "$file" | sed '/^Requires.private/d; /^Libs.private/d' >"$folder/lib/pkgconfig/$module.pc"
    done
    for header in jansson.h jansson_config.h zmq.h zmq_utils.h pcre2.h utf8proc.h jpeglib.h jmorecfg.h jerror.h \
        turbojpeg.h microhttpd.h seccomp.h seccomp-syscalls.h curl png.h pngconf.h pnglibconf.h libpng16 cmocka.h jconfig.h libavformat libavcodec libavutil libswscale; do
        for place in /usr/include /usr/include/"$triplet"; do
            [ ! -e "$place/$header" ] || cp -rL "$place/$header" "$folder/include/"
        done
    done
    for name in jansson zmq pcre2-8 utf8proc avformat avcodec avutil swscale jpeg png16 png microhttpd seccomp cmocka; do
        [ -e "/usr/lib/$triplet/lib$name.so" ] || continue
        ln -sf "$(readelf -d "/usr/lib/$triplet/lib$name.so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')" "$folder/lib/lib$name.so"
    done
    for name in jansson zmq pcre2-8 utf8proc avformat avcodec avutil swscale jpeg png16 microhttpd seccomp cmocka; do
        ldd "/usr/lib/$triplet/lib$name.so" | awk '/=>/ {print $3}'
        readlink -f "/usr/lib/$triplet/lib$name.so"
    done | sort -u | grep -vE '/(libc|libm|libdl|librt|libpthread|libgcc_s|libstdc\+\+|libresolv|libmvec)\.so' |
        while read -r library; do
            local soname
            soname=$(readelf -d "$library" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
            case $soname in
            libcodec2* | libx26[45]* | libSvtAv1* | librav1e* | librsvg* | libaom* | libjxl.* | libicudata*)
                stand_in "$library" "$folder/lib/$soname"
                ;;
            *) cp -L "$library" "$folder/lib/$soname" ;;
            esac
        done
    cp -L "$(command -v pkg-config)" "$folder/bin/pkg-config"
    ldd "$folder/bin/pkg-config" | awk '/libpkgconf/ {print $3}' | xargs -r -I{} cp -L {} "$folder/lib/"
    ffmpeg -v error -y -f lavfi -i testsrc2=size=1920x1080:rate=25 -t 60 -pix_fmt yuv420p -c:v libx264 -preset veryfast \
        -crf 45 -g 50 "$folder/clip.mp4"
    tar cJf "$folder.tar.xz" -C "$folder" .
    du -h "$folder.tar.xz"
}

# What a packed folder stands in for.
use_needs() {
    mkdir -p "$build/pc"
    if [ -f "$needs" ]; then
        mkdir -p "$build/needs" && tar xf "$needs" -C "$build/needs" || exit 1
        needs=$build/needs
    fi
    needs=$(realpath "$needs")
    for file in "$needs"/lib/pkgconfig/*.pc; do sed "s|@FOLDER@|$needs|g" "$file" >"$build/pc/$(basename "$file")"; done
    chmod +x "$needs"/bin/*
    export PKG_CONFIG_LIBDIR=$PWD/$build/pc PATH=$needs/bin:$PATH
    export LD_LIBRARY_PATH=$needs/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
}

# keep STAGE JSON-FILE: the stage's results and seconds into the one file.
keep() {
    mkdir -p "$(dirname "$out")"
    STAGE=$1 FILE=$2 SECONDS_TAKEN=$(($(date +%s) - stage_started)) OUT=$out python3 - <<'PY'
import json, os, platform, subprocess
out = os.environ["OUT"]
try:
    with open(out) as f:
        all_of_it = json.load(f)
except (OSError, ValueError):
    all_of_it = {}
if "machine" not in all_of_it:
    def said(*command):
        try:
            return subprocess.run(command, capture_output=True, text=True).stdout.strip()
        except OSError:
            return ""
    all_of_it["command"] = "bench/gpu.sh"
    all_of_it["machine"] = {
        "gpu": said("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"),
        "nvcc": said("nvcc", "--version").splitlines()[-1:], "cores": os.cpu_count(), "kernel": platform.release(),
        "commit": said("git", "rev-parse", "--short", "HEAD")}
try:
    with open(os.environ["FILE"]) as f:
        result = json.load(f)
except (OSError, ValueError) as e:
    result = {"failed": str(e)}
all_of_it[os.environ["STAGE"]] = {"seconds": int(os.environ["SECONDS_TAKEN"]), "result": result}
with open(out, "w") as f:
    json.dump(all_of_it, f, indent=1)
PY
}

quoted() { # text as a JSON string
    python3 -c 'import json, sys; print(json.dumps(sys.stdin.read()[-4000:]))'
}

stage_build() {
    local status=0 gpu
    gpu=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)
    timeout 300 cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DSIGHT_CUDA=ON -DCMAKE_CUDA_FLAGS=-lineinfo \
        -DSIGHT_CUDA_ARCHITECTURES="${gpu:-90}-real" ${needs:+-DCMAKE_EXE_LINKER_FLAGS="-L$needs/lib -Wl,-rpath-link,$needs/lib"} \
        ${needs:+-DCMAKE_SHARED_LINKER_FLAGS="-L$needs/lib -Wl,-rpath-link,$needs/lib"} >"$work/log" 2>&1 &&
        timeout 420 cmake --build "$build" >>"$work/log" 2>&1 || status=$?
    printf '{"status": %d, "log": %s}' "$status" "$(tail -20 "$work/log" | quoted)" >"$work/json"
}

stage_tests() {
    timeout 300 ctest --test-dir "$build" -L gpu --timeout 120 --output-on-failure >"$work/log" 2>&1
    local status=$?
    printf '{"status": %d, "log": %s}' "$status" "$(grep -vE 'Start +[0-9]+:' "$work/log" | quoted)" >"$work/json"
}

stage_sanitizer() {
    local comma=""
    printf '{' >"$work/json"
    for tool in memcheck racecheck; do
        for test in rows pick delta attention linear linear_f8 packed frames; do
            local program=$build/tests/test_${test}_cuda
            [ -x "$program" ] || continue
            timeout 45 compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 5 "$program" >"$work/log" 2>&1
            printf '%s"%s %s": {"status": %d, "log": %s}' "$comma" "$tool" "$test" $? \
                "$(grep -E '^=========|ERROR SUMMARY|RACECHECK' "$work/log" | tail -12 | quoted)" >>"$work/json"
            comma=,
        done
    done
    printf '}' >>"$work/json"
}

stage_bench() {
    local comma="" works=prefill_512,prefill_2048,prefill_8192,decode,decode_4096,batch8_decode,batch32_decode,vision_640x480,vision_1920x1080
    printf '{' >"$work/json"
    for shape in 0.8b 2b 4b 9b; do
        local forms="bf16 int4"
        case $shape in 4b | 9b) forms+=" fp8" ;; esac
        for form in $forms; do
            timeout 90 "$build/sight" bench --device cuda:0 --shape $shape --weights $form --only $works --json \
                >"$work/one" 2>"$work/log" || printf '{"failed": %s}' "$(quoted <"$work/log")" >"$work/one"
            printf '%s"%s %s": %s' "$comma" $shape $form "$(cat "$work/one")" >>"$work/json"
            comma=,
        done
    done
    printf '}' >>"$work/json"
}

stage_clip() {
    local clip=${needs:+$needs/clip.mp4}
    if [ -z "$clip" ]; then
        clip=$work/clip.mp4
        ffmpeg -v error -y -f lavfi -i testsrc2=size=1920x1080:rate=25 -t 60 -pix_fmt yuv420p -c:v libx264 -crf 34 -g 50 \
            "$clip" || true
    fi
    # The GPU decodes only where the daemon itself may read clips (docs/SECURITY.md).
    mkdir -p "$work/config/sightd"
    echo "gpu-decode = yes" >"$work/config/sightd/sightd.conf"
    export XDG_CONFIG_HOME=$work/config
    # Twice each: the first question also starts the daemon. The answers tell whether both say the same.
    local comma=""
    printf '{' >"$work/json"
    for device in cuda:0 cpu; do
        export XDG_RUNTIME_DIR=$work/run-${device%:*}
        mkdir -p "$XDG_RUNTIME_DIR"
        for round in 1 2; do
            timeout 60 "$build/sight" ask -m models/mini -d $device --fps 2 -n 32 --temperature 0 --json "$clip" "What happens?" \
                >"$work/one" 2>"$work/log" || printf '{"failed": %s}' "$(quoted <"$work/log")" >"$work/one"
            printf '%s"%s %d": %s' "$comma" $device $round "$(tail -1 "$work/one")" >>"$work/json"
            comma=,
        done
    done
    printf '}' >>"$work/json"
}

stage_transformers() {
    timeout 240 python3 bench/against_transformers.py --sight "$build" --shapes 0.8b,4b --json "$work/json" >"$work/log" 2>&1 ||
        printf '{"failed": %s}' "$(quoted <"$work/log")" >"$work/json"
}

if [ -n "$pack" ]; then
    pack_needs "$pack"
    exit
fi
[ -z "$needs" ] || use_needs
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for stage in ${stages//,/ }; do
    stage_started=$(date +%s)
    "stage_$stage"
    keep "$stage" "$work/json"
    echo "$stage: $(($(date +%s) - stage_started)) s"
done
echo "$out after $(($(date +%s) - started)) s"
