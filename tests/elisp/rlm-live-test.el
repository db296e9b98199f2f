;;; rlm-live-test.el --- Tests of the code blocks of runs  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.

;;; Commentary:

;; A real server, and a model that follows a script: code blocks are run,
;; edited and forked with, while a run goes on, after its end, and after
;; its variables have gone.

;;; Code:

(require 'rlm-test-lib)
(require 'rlm-forks)
(require 'rlm-live)

(defun rlm-live-test-reply (&rest codes)
  "Return a reply that holds CODES, a block each."
  (concat "I run this.\n\n"
          (mapconcat (lambda (code) (concat "```repl\n" code "\n```\n")) codes "\nAnd this.\n\n")))

(defun rlm-live-test-rules (&rest replies)
  "Return rules by which the root model gives REPLIES, in their order."
  (vconcat (mapcar (lambda (reply) (list :role "root" :times 1 :reply reply)) replies)))

(defun rlm-live-test-ask ()
  "Ask something about a small file; return the run's buffer."
  (let ((rlm-use-cache nil))
    (rlm-ask-files "What?" (list (rlm-test-file "greek.txt" "alpha\nbeta\n")))))

(defun rlm-live-test-go (text)
  "Go to TEXT in this buffer, from its beginning."
  (goto-char (point-min))
  (search-forward text))

(defun rlm-live-test-results (buffer number)
  "Return what the user's own code NUMBER has printed, once it has ended in BUFFER."
  (let (found)
    (rlm-test-wait
     (lambda ()
       (with-current-buffer buffer
         (save-excursion
           (goto-char (point-min))
           (when (re-search-forward (format "^\\*+ Your code %d" number) nil t)
             (let ((end (save-excursion (outline-next-heading) (point))))
               (when (save-excursion (re-search-forward "^/Ran\\|^\\*Code" end t))
                 (if (re-search-forward "#\\+RESULTS:\n#\\+begin_example\n" end t)
                     (setq found (buffer-substring-no-properties
                                  (point) (progn (search-forward "#+end_example")
                                                 (line-beginning-position))))
                   (setq found ""))))))))
     (format "end of own code %d" number))
    found))

(ert-deftest rlm-live-blocks-run-edited-and-as-they-are ()
  (rlm-test-with-models
      (rlm-live-test-rules
       (rlm-live-test-reply "context\nx = 41\nprint('*first*')" "x += 1\nprint('#+end_src')")
       (rlm-live-test-reply "FINAL(x)"))
    (let* ((buffer (rlm-live-test-ask))
           (run (rlm-test-wait-end buffer)))
      (should (equal "42" (rlm-run-answer run)))
      (switch-to-buffer buffer)
      ;; As it is, by Org's own hook.
      (rlm-live-test-go "x += 1")
      (should (eq #'rlm-run-code (key-binding (kbd "C-c C-c"))))
      (rlm-test-keys "C-c C-c")
      (should (equal ",#+end_src\n" (rlm-live-test-results buffer 1)))
      (should (= (point) (point-max)))
      ;; Edited.
      (rlm-live-test-go "x += 1")
      (rlm-test-keys "e")
      (should (derived-mode-p 'python-mode))
      (should (equal "x += 1\nprint('#+end_src')\n" (buffer-string)))
      (rlm-test-keys "C-a C-k" "print(x*2) RET" "M->" "C-p C-k" "C-c C-c")
      (should (equal "86\n" (rlm-live-test-results buffer 2)))
      (should (eq buffer (window-buffer)))
      ;; Dropped.
      (rlm-live-test-go "x += 1")
      (rlm-test-keys "C-c '" "C-c C-k")
      (should (eq buffer (window-buffer)))
      ;; One's own code is live too.
      (rlm-live-test-go "print(x*2)")
      (rlm-test-keys "C-c C-c")
      (should (equal "86\n" (rlm-live-test-results buffer 3)))
      ;; Where there is no code, it is what Org makes of it.
      (goto-char (point-min))
      (search-forward "** Answer")
      (should-not (rlm-live-ctrl-c-ctrl-c))
      (should-error (rlm-live-edit) :type 'user-error)
      (should-error (rlm-live-run-block) :type 'user-error)
      ;; The run's own text is untouched, and its answer.
      (should (equal "42" (rlm-run-answer run)))
      (let ((drawn (rlm-test-buffer-text buffer)))
        (rlm-client-redraw buffer)
        (rlm-test-wait (lambda () (equal drawn (rlm-test-buffer-text buffer))) "redrawn")))))

(ert-deftest rlm-live-variables-that-are-gone-are-made-anew ()
  (rlm-test-with-models
      (rlm-live-test-rules (rlm-live-test-reply "context\nx = 41\nFINAL(x)"))
    (let ((buffer (rlm-live-test-ask)))
      (rlm-test-wait-end buffer)
      (rlm-rpc-stop)
      (switch-to-buffer buffer)
      (rlm-live-test-go "x = 41")
      (rlm-test-keys "e" "M->" "print(x+1)" "C-c C-c")
      (should (equal "42\n" (rlm-live-test-results buffer 1))))))

(ert-deftest rlm-live-code-runs-while-the-run-goes-on ()
  (rlm-test-with-models
      (rlm-live-test-rules (rlm-live-test-reply "context\nx = 'theirs'\nprint('begun')")
                           (rlm-live-test-reply "FINAL(x)"))
    (let* ((rlm-approve-code t)
           (buffer (rlm-live-test-ask))
           (run (rlm-run-in-buffer buffer)))
      (rlm-test-wait (lambda () (rlm-run-waiting-cell run "0.1" 1)))
      (switch-to-buffer buffer)
      ;; At code that waits, it lets that run.
      (rlm-live-test-go "x = 'theirs'")
      (rlm-test-keys "C-c C-c")
      (rlm-test-wait (lambda () (rlm-run-waiting-cell run "0.2" 1)))
      ;; At other code, it runs that.
      (rlm-live-test-go "x = 'theirs'")
      (rlm-test-keys "e" "M->" "x = 'mine'" "C-c C-c")
      (rlm-live-test-results buffer 1)
      (should (rlm-run-waiting run))
      ;; Elsewhere, it is for what waits.
      (goto-char (point-max))
      (rlm-test-keys "C-c C-c")
      (should (equal "mine" (rlm-run-answer (rlm-test-wait-end buffer)))))))

(ert-deftest rlm-live-edited-code-forks-beside-its-iteration ()
  (rlm-test-with-models
      (rlm-live-test-rules
       (rlm-live-test-reply "context\nx = 1" "x += 1")
       (rlm-live-test-reply "FINAL(x)")
       (rlm-live-test-reply "FINAL(x)"))
    (let* ((buffer (rlm-live-test-ask)))
      (rlm-test-wait-end buffer)
      (switch-to-buffer buffer)
      (rlm-live-test-go "x += 1")
      (rlm-test-keys "e" "C-a C-k" "x*=50" "C-c C-f")
      ;; All that will run is seen before.
      (should (equal "context\nx = 1\n\nx*=50\n" (buffer-string)))
      (rlm-test-keys "C-c C-c")
      (rlm-test-wait-text buffer "^\\*\\* Fork at iteration 1 with other code (done")
      (with-current-buffer buffer
        ;; Only this block of the iteration is another.
        (goto-char (point-min))
        (dolist (line '("** Iteration 1" "** Fork at iteration 1 with other code (done"
                        "\n#+begin_src python\ncontext\nx = 1\n\nx*=50\n#+end_src\n"
                        "\nIts answer:\n\n50\n" "** Iteration 2"))
          (should (search-forward line nil t)))
        (goto-char (point-min))
        (re-search-forward "^\\[\\[rlm:")
        (rlm-trajectory-follow-link))
      (let ((fork (window-buffer)))
        (should-not (eq fork buffer))
        (should (equal "50" (rlm-run-answer (rlm-run-in-buffer fork)))))
      ;; It is drawn again with the run, in the same place.
      (let ((drawn (rlm-test-buffer-text buffer)))
        (rlm-client-redraw buffer)
        (rlm-test-wait (lambda () (equal drawn (rlm-test-buffer-text buffer))) "redrawn")
        (should (string-search "Fork at iteration 1"
                               (rlm-test-text (rlm-run-transcript (rlm-run-in-buffer buffer)))))))))

;; Nobody is asked about the code of a fork.
(ert-deftest rlm-live-a-fork-runs-nothing-that-was-rejected-and-is-not-seen ()
  (rlm-test-with-models
      (rlm-live-test-rules
       (rlm-live-test-reply "context\nx = 1" "x = 'refused'\nprint(x)")
       (rlm-live-test-reply "FINAL('done')")
       (rlm-live-test-reply "FINAL(x)"))
    (let* ((rlm-approve-code t)
           (buffer (rlm-live-test-ask))
           (run (rlm-run-in-buffer buffer)))
      (dolist (cell '(("0.1" 1) ("0.1" 2 "No.") ("0.2" 1)))
        (let ((wait (rlm-test-wait (lambda () (rlm-run-waiting-cell run (car cell) (cadr cell))))))
          (if (cddr cell)
              (rlm-reject run wait "No.")
            (rlm-approve run wait))))
      (rlm-test-wait-end buffer)
      (switch-to-buffer buffer)
      (rlm-live-test-go "x = 1")
      (rlm-test-keys "e" "M->" "C-b" "0" "C-c C-f")
      ;; No fork has begun; its code is there to be read.
      (should-not (rlm-run-live-buffers))
      (should (equal "context\nx = 10\n\nx = 'refused'\nprint(x)\n" (buffer-string)))
      (search-forward "\n\n")
      (delete-region (point) (point-max))
      (rlm-test-keys "C-c C-c")
      (rlm-test-wait-text buffer "^\\*\\* Fork at iteration 1 with other code")
      (let* ((fork (car (rlm-run-live-buffers)))
             (wait (rlm-test-wait
                    (lambda () (rlm-run-waiting-cell (rlm-run-in-buffer fork) "0.2" 1)))))
        (rlm-approve (rlm-run-in-buffer fork) wait)
        (should (equal "10" (rlm-run-answer (rlm-test-wait-end fork))))
        (should-not (string-search "refused" (rlm-test-buffer-text fork)))))))

(ert-deftest rlm-live-a-fork-waits-for-a-run-that-is-drawn-anew ()
  (rlm-test-with-models
      (rlm-live-test-rules (rlm-live-test-reply "context\nx = 1" "x += 1") (rlm-live-test-reply "FINAL(x)"))
    (let ((buffer (rlm-live-test-ask))
          edited)
      (rlm-test-wait-end buffer)
      (switch-to-buffer buffer)
      (rlm-live-test-go "x += 1")
      (rlm-test-keys "e" "C-e" "0")
      (setq edited (current-buffer))
      (rlm-trajectory-reset buffer)
      (should (string-match-p "try again" (cadr (should-error (rlm-test-keys "C-c C-f")
                                                              :type 'user-error))))
      (should (buffer-live-p edited))
      (rlm-client-redraw buffer)
      (rlm-test-wait-end buffer)
      (switch-to-buffer edited)
      (rlm-test-keys "C-c C-f")
      (should (equal "context\nx = 1\n\nx += 10\n" (buffer-string))))))

;; The first of them ends when the second one stands below it already.
(ert-deftest rlm-live-forks-of-one-iteration-stay-apart ()
  (rlm-test-with
    (let ((buffer (rlm-trajectory-create "Why?"))
          (forks (list (generate-new-buffer " one") (generate-new-buffer " two"))))
      (dolist (event (rlm-test-first-question))
        (rlm-trajectory-push buffer event))
      (rlm-trajectory-flush buffer)
      (seq-mapn (lambda (fork id) (rlm-forks-add buffer fork 1 id '(:note "So?")))
                forks '("one" "two"))
      (seq-mapn (lambda (fork id)
                  (with-current-buffer fork
                    (run-hook-with-args 'rlm-after-run-functions
                                        (rlm-run--make :id id :status "done" :answer (concat "**" id "**")))))
                forks '("one" "two"))
      (with-current-buffer buffer
        (goto-char (point-min))
        (dolist (id '("one" "two"))
          (re-search-forward "^\\*\\* Fork at iteration 1 with a note (done")
          (re-search-forward (format "^:RLM_FORK: %s$" id))
          (re-search-forward (format "^Its answer:\n\n\\*%s\\*$" id)))
        (should (= 2 (how-many "^\\*\\* Fork at .* with a note" (point-min))))))))

;; Drawn anew when it ends, its fold hides as much as that of before.
(ert-deftest rlm-live-fork-that-is-folded-stays-so-when-it-ends ()
  (rlm-test-with
    (let ((buffer (rlm-trajectory-create "Why?"))
          (fork (generate-new-buffer " fork"))
          visible)
      (dolist (event (rlm-test-first-question))
        (rlm-trajectory-push buffer event))
      (rlm-trajectory-flush buffer)
      (rlm-forks-add buffer fork 1 "one" '(:note "So?"))
      (with-current-buffer buffer
        (rlm-browse-fold 3)
        (setq visible (rlm-test-visible-text)))
      (with-current-buffer fork
        (run-hook-with-args 'rlm-after-run-functions
                            (rlm-run--make :id "one" :status "done" :answer "So." :seconds 1)))
      (with-current-buffer buffer
        (should (equal (string-replace "with a note..." "with a note (done, 1.00 s)..." visible)
                       (rlm-test-visible-text)))))))

;; As for another Emacs, nothing is left here of what this one knew of the forks.
(ert-deftest rlm-live-forks-stand-beside-their-iteration-whoever-began-them ()
  (rlm-test-with-models
      (rlm-live-test-rules
       (rlm-live-test-reply "context\nx = 1")
       (rlm-live-test-reply "FINAL(x)"))
    (let* ((buffer (rlm-live-test-ask))
           (run (rlm-test-wait-end buffer))
           (summary (list :runId (rlm-run-id run) :question "What?"))
           (log (rlm-run-log run)))
      (rlm-fork-run summary 2 :code "FINAL(x + 1)")
      (rlm-fork-run summary 1 :code "context\nFINAL('begun first')")
      (rlm-fork-run summary 1 :code "context\nFINAL('begun second')")
      (dolist (answer '("begun first" "begun second" "2"))
        (rlm-test-wait-text buffer (format "^Its answer:\n\n%s$" answer)))
      (should (= 3 (with-current-buffer buffer (how-many "^\\*\\* Fork at" (point-min)))))
      (dolist (each (buffer-list))
        (when (rlm-run-in-buffer each)
          (kill-buffer each)))
      (setq buffer (rlm-client-open (append summary (list :log log))))
      (rlm-test-wait-text buffer "^\\*\\* Fork at iteration 2")
      (rlm-trajectory-flush buffer)
      (with-current-buffer buffer
        (goto-char (point-min))
        (let (found)
          (while (re-search-forward "^\\*\\* [A-Z][a-z ]+[0-9]?\\( (done\\)?" nil t)
            (push (match-string-no-properties 0) found))
          (should (equal (nreverse found)
                         '("** Iteration 1" "** Fork at iteration 1 (done"
                           "** Fork at iteration 1 (done" "** Iteration 2"
                           "** Fork at iteration 2 (done" "** Answer"))))
        (goto-char (point-min))
        (re-search-forward "^\\[\\[rlm:")
        (rlm-trajectory-follow-link))
      (rlm-test-wait-text (window-buffer) "^begun \\(first\\|second\\)$")
      ;; Drawn once more, each is there once.
      (let ((drawn (rlm-test-buffer-text buffer)))
        (rlm-client-redraw buffer)
        (rlm-test-wait (lambda () (equal drawn (rlm-test-buffer-text buffer))) "redrawn")))))

;; A block that can't be run still stands there; of what was written elsewhere, nothing would be left.
(ert-deftest rlm-live-code-that-can-not-be-run-is-kept-once ()
  (rlm-test-with-models
      (rlm-live-test-rules (rlm-live-test-reply "context\nFINAL('done')"))
    (let* ((buffer (rlm-live-test-ask))
           (run (rlm-test-wait-end buffer))
           (kill-ring nil))
      (rlm-rpc-call 'rlm/delete (list :runId (rlm-run-id run)))
      (switch-to-buffer buffer)
      (dolist (keys '(("C-c C-c") ("e" "M->" "x=1" "C-c C-c")))
        (with-current-buffer buffer
          (rlm-live-test-go "FINAL(")
          (let ((said (rlm-test-messages
                        (apply #'rlm-test-keys keys)
                        (rlm-test-wait (lambda () (seq-find (lambda (text)
                                                              (string-match-p "\\`rlm: .*run" text))
                                                            said))))))
            (should (equal (and (cdr keys) '("context\nFINAL('done')\nx=1")) kill-ring))
            (should (eq (and (cdr keys) t)
                        (and (seq-find (lambda (text) (string-search "C-y inserts" text)) said)
                             t)))))))))

(ert-deftest rlm-live-code-that-is-open-outlives-what-is-done-to-its-run ()
  (rlm-test-with-models
      (rlm-live-test-rules
       (rlm-live-test-reply "context\nx = 1")
       (rlm-live-test-reply "y = x + 1" "y *= 10")
       (rlm-live-test-reply "FINAL(y)")
       (rlm-live-test-reply "FINAL(y)"))
    (let* ((buffer (rlm-live-test-ask))
           (run (rlm-test-wait-end buffer))
           own block edited)
      (switch-to-buffer buffer)
      (rlm-test-keys "x" "print('own', SPC x)")
      (setq own (current-buffer))
      (switch-to-buffer buffer)
      (rlm-live-test-go "y *= 10")
      (rlm-test-keys "e" "C-a C-k" "y*=50")
      (setq block (current-buffer))
      (switch-to-buffer buffer)
      (rlm-live-test-go "FINAL(y)")
      (rlm-test-keys "e" "C-a C-k" "print('all') RET print('seen')" "M-<")
      (narrow-to-region (point-min) (line-end-position))
      (setq edited (current-buffer))
      ;; Something is drawn above them, and then all of it anew.
      (rlm-fork-run (rlm-run-summary run) 1 :code "context\nFINAL('other')")
      (rlm-test-wait-text buffer "^\\*\\* Fork at iteration 1 .*(done")
      (switch-to-buffer block)
      (rlm-test-keys "C-c C-f" "C-c C-c")
      (rlm-test-wait-text buffer "^\\*\\* Fork at iteration 2 .*(done")
      (rlm-test-wait-text buffer "^Its answer:\n\n100$")
      (switch-to-buffer buffer)
      (rlm-test-keys "g")
      (rlm-test-wait (lambda () (not (eq run (rlm-run-in-buffer buffer)))))
      (rlm-test-wait-end buffer)
      (switch-to-buffer own)
      (rlm-test-keys "C-c C-c")
      (should (equal "own 1\n" (rlm-live-test-results buffer 1)))
      (should-not (buffer-live-p own))
      ;; What is out of sight runs too.
      (switch-to-buffer edited)
      (rlm-test-keys "C-c C-c")
      (should (equal "all\nseen\n" (rlm-live-test-results buffer 2)))
      ;; Where nobody could see what comes of it, nothing is run.
      (switch-to-buffer buffer)
      (rlm-test-keys "x" "print(1)")
      (setq own (current-buffer))
      (kill-buffer buffer)
      (switch-to-buffer own)
      (should (string-match-p "rlm-open-run" (cadr (should-error (rlm-test-keys "C-c C-c")
                                                                 :type 'user-error))))
      (should (buffer-live-p own)))))

(ert-deftest rlm-live-a-fork-has-the-code-of-its-iteration-from-anywhere ()
  (rlm-test-with-models
      (rlm-live-test-rules (rlm-live-test-reply "context\nx = 1") (rlm-live-test-reply "FINAL(x)"))
    (let* ((buffer (rlm-live-test-ask))
           (list (progn (rlm-test-wait-end buffer) (rlm-runs)))
           (fork (lambda (keys)
                   (rlm-test-keys keys)
                   (prog1 (buffer-string)
                     (rlm-test-keys "C-c C-k")))))
      (switch-to-buffer list)
      (rlm-test-wait (lambda () tabulated-list-entries))
      (goto-char (point-min))
      (should (equal "context\nx = 1\n" (funcall fork "f 1 RET o t h e r SPC c o d e RET")))
      ;; Also where the buffer is narrowed to something else.
      (switch-to-buffer buffer)
      (rlm-live-test-go "** Answer")
      (org-narrow-to-subtree)
      (should (equal "context\nx = 1\n" (funcall fork "f 1 RET o t h e r SPC c o d e RET"))))))

(ert-deftest rlm-live-saved-transcripts-are-live ()
  (rlm-test-with-models
      (rlm-live-test-rules (rlm-live-test-reply "context\nx = 41\nFINAL(x)"))
    (let* ((buffer (rlm-live-test-ask))
           (run (rlm-test-wait-end buffer)))
      (find-file (rlm-run-transcript run))
      (add-hook 'org-ctrl-c-ctrl-c-hook #'rlm-live-ctrl-c-ctrl-c nil t)
      (rlm-live-test-go "x = 41")
      (goto-char (line-beginning-position))
      (insert "print(x + 2)\n")
      (rlm-test-keys "C-c C-c")
      (should (string-prefix-p "43\n" (rlm-live-test-results buffer 1)))
      (with-current-buffer (find-buffer-visiting (rlm-run-transcript run))
        (set-buffer-modified-p nil)))))

(ert-deftest rlm-live-blocks-of-a-run-that-was-cut-short-offer-to-go-on ()
  (rlm-test-with-models
      (vector (list :role "root" :times 1
                    :reply "Now.\n```repl\nx = 1\nprint('begun', context[:0])\nllm_query('never')\n```\n")
              (list :role "sub" :silent t))
    (let ((buffer (rlm-live-test-ask)))
      (rlm-test-wait-text buffer "^begun")
      (rlm-rpc-stop)
      (should (equal "interrupted" (rlm-run-status (rlm-test-wait-end buffer))))
      (switch-to-buffer buffer)
      (rlm-live-test-go "x = 1")
      (let (asked)
        (cl-letf (((symbol-function 'y-or-n-p) (lambda (text) (setq asked text) nil)))
          (should-error (rlm-live-run-block) :type 'user-error))
        (should (string-search "cut short" asked))))))

(ert-deftest rlm-live-signs-that-hide-markup-take-no-room ()
  (rlm-test-with
    (with-current-buffer (rlm-trajectory-create "Why?")
      (should (= 2 (string-width "a\u2060\u200bb"))))))

(provide 'rlm-live-test)
;;; rlm-live-test.el ends here
